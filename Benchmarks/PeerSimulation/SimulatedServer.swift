internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// A call as it travels.
struct SimulatedCall {
  var id: Int
  var isIdempotent: Bool
  var begun: MonotonicTime
  var deadline: MonotonicTime
  var attemptTimeout: Duration?

  var rid: [UInt8] { Array("\(id)".utf8) }
}

/// What a client hears of a call that it has sent.
enum SimulatedReply {
  case result
  case fault(String)
  /// The connection has ended, in order or not.
  case closed(inOrder: Bool)
}

/// A worker in virtual time. Whether a call is begun, shed or cancelled is decided by the code of real ones.
final class SimulatedServer {
  enum State { case up, draining, down }

  let endpoint: Endpoint
  private let timeline: Timeline
  private(set) var state = State.up
  /// Changes with each restart: connections belong to one.
  private(set) var incarnation = 0
  /// Nothing comes to it or from it, and nobody is told.
  var isSilent = false {
    didSet { hasBeenSilent = hasBeenSilent || isSilent }
  }
  /// Whether something that this run has said may not have come.
  private(set) var hasBeenSilent = false
  var callsMax = 1_000
  var workMs = 1...20
  /// Told of each handler that begins.
  var began: (SimulatedCall) -> Void = { _ in }
  var violated: (String) -> Void = { _ in }
  private(set) var load = RPCServiceLoad()
  private(set) var running = RunningCalls()
  private var places: [Int: (place: Int, end: () -> Void)] = [:]
  private var watchers: [(Bool) -> Void] = []

  init(_ endpoint: Endpoint, _ timeline: Timeline) {
    self.endpoint = endpoint
    self.timeline = timeline
  }

  var takesConnections: Bool { state == .up }
  var isIdle: Bool { running.count == 0 && load.count == 0 }

  /// Has `closed` hear of the end of this run.
  func watch(_ closed: @escaping (_ inOrder: Bool) -> Void) { watchers.append(closed) }

  func kill() {
    guard state != .down else { return }
    end(inOrder: false)
    // What ran is gone with the process.
    running = RunningCalls()
    load = RPCServiceLoad()
    places = [:]
  }

  func drain() {
    guard state == .up else { return }
    state = .draining
    endIfDrained()
  }

  func restart() {
    guard state == .down else { return }
    state = .up
    incarnation += 1
    hasBeenSilent = isSilent
  }

  private func endIfDrained() {
    if state == .draining, running.count == 0 { end(inOrder: true) }
  }

  private func end(inOrder: Bool) {
    state = .down
    let told = watchers
    watchers = []
    for watcher in told { watcher(inOrder) }
  }

  /// A call has come.
  func receive(
    _ call: SimulatedCall, timeLeft: Duration, _ reply: @escaping (SimulatedReply) -> Void
  ) {
    guard state == .up else {
      return reply(.fault("\(RPCFault.shuttingDownCode): simulated"))
    }
    let deadline = timeline.now + timeLeft
    let place = running.add(call.rid, deadline: deadline)
    let born = incarnation
    timeline.at(deadline) { [self] in
      if incarnation == born { cancelLate() }
    }
    timeline.after(timeline.milliseconds(0...3)) { [self] in
      guard incarnation == born, state != .down else { return }
      guard running.mayBegin(place, at: timeline.now) else {
        _ = running.end(place)
        return endIfDrained()
      }
      if timeline.now >= deadline { violated("call \(call.id) begins after its deadline") }
      guard load.enter(callsMax) else {
        if running.end(place) { reply(.fault("\(RPCFault.overloadedCode): simulated")) }
        return endIfDrained()
      }
      began(call)
      handle(call, place, born, reply)
    }
  }

  private func handle(
    _ call: SimulatedCall, _ place: Int, _ born: Int, _ reply: @escaping (SimulatedReply) -> Void
  ) {
    var isOver = false
    let finish = { [self] in
      guard !isOver, incarnation == born, state != .down else { return }
      isOver = true
      places[call.id] = nil
      load.leave()
      if running.end(place) { reply(.result) }
      endIfDrained()
    }
    places[call.id] = (place, finish)
    timeline.after(timeline.milliseconds(workMs), finish)
  }

  func cancel(_ call: SimulatedCall) {
    guard state != .down else { return }
    running.cancel(call.rid.span)
    places[call.id]?.end()
  }

  private func cancelLate() {
    running.cancelLate(at: timeline.now)
    for (_, known) in places.sorted(by: { $0.key < $1.key })
    where !running.mayBegin(known.place, at: timeline.now) {
      known.end()
    }
  }
}
