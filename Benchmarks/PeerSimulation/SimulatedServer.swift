internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// A call as it travels.
struct SimulatedCall {
  var id: Int
  /// Who makes it.
  var client: Int
  var isIdempotent: Bool
  /// When it has to be over, by its caller's clock.
  var deadline: MonotonicTime
  /// How long it had then, from its caller's first word of it.
  var time: Duration
  var attemptTimeout: Duration?
  var hedgeDelay: Duration?
  /// When its caller does not want it any more.
  var cancelledAfter: Duration?
  /// Whether it is one of those of a `map`.
  var isOfMap = false

  var rid: [UInt8] { Array("\(id)".utf8) }
}

/// What a client hears of a call that it has sent.
enum SimulatedReply {
  case result
  case fault(String)
}

/// A worker in virtual time. Whether a call is begun, shed or cancelled is decided by the code of real ones.
final class SimulatedServer {
  enum State { case up, draining, down }
  /// What the scenario is told.
  enum Event {
    /// A call has come to a worker that takes calls: it costs it something, whatever becomes of it.
    case received(SimulatedCall)
    case began(SimulatedCall)
    case violated(String)
  }

  /// How long its loop may be busy with something else.
  static let turnMsMax = 150

  let endpoint: Endpoint
  private let timeline: Timeline
  private let clock: NodeClock
  private(set) var state = State.up
  /// Changes with each restart: connections belong to one.
  private(set) var incarnation = 0
  /// Nothing comes to it or from it, and nobody is told.
  var isSilent = false
  var callsMax = 1_000
  var workMs = 1...20
  var tell: (Event) -> Void = { _ in }
  private(set) var load = RPCServiceLoad()
  private(set) var running = RunningCalls()
  private var handlers: [Int: (place: Int, end: () -> Void)] = [:]
  private var watchers: [(Bool) -> Void] = []

  init(_ endpoint: Endpoint, _ timeline: Timeline) {
    self.endpoint = endpoint
    self.timeline = timeline
    clock = NodeClock(timeline)
  }

  var takesConnections: Bool { state == .up }

  /// What it still holds of calls, when all should be over.
  var remains: String? {
    if running.count != 0 || load.count != 0 { return "counts calls" }
    return running.held.identifierBytes == 0 ? nil : "keeps identifiers of calls"
  }

  func isHandling(_ call: SimulatedCall) -> Bool { handlers[call.id] != nil }

  /// Has `closed` hear of the end of this run.
  func watch(_ closed: @escaping (_ inOrder: Bool) -> Void) { watchers.append(closed) }

  func kill() {
    guard state != .down else { return }
    end(inOrder: false)
    // What ran is gone with the process.
    running = RunningCalls()
    load = RPCServiceLoad()
    handlers = [:]
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
    _ call: SimulatedCall, timeoutMs: UInt32, _ reply: @escaping (SimulatedReply) -> Void
  ) {
    guard state == .up else {
      return reply(.fault("\(RPCFault.shuttingDownCode): simulated"))
    }
    tell(.received(call))
    let deadline = clock.now.adding(milliseconds: timeoutMs)
    let place = running.add(call.rid, deadline: deadline)
    let born = incarnation
    // Now and then its loop is busy: then calls wait for their turn, and so do its timers.
    let turn = timeline.milliseconds(0...(timeline.chance(5) ? Self.turnMsMax : 3))
    clock.at(deadline + turn) { [self] in
      if incarnation == born { cancelLate() }
    }
    timeline.after(turn) { [self] in
      guard incarnation == born, state != .down else { return }
      guard running.mayBegin(place, at: clock.now) else {
        _ = running.end(place)
        return endIfDrained()
      }
      if clock.now >= deadline { tell(.violated("call \(call.id) begins after its deadline")) }
      guard load.enter(callsMax) else {
        if running.end(place) == .wanted { reply(.fault("\(RPCFault.overloadedCode): simulated")) }
        return endIfDrained()
      }
      tell(.began(call))
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
      handlers[call.id] = nil
      load.leave()
      switch running.end(place) {
      case .wanted: reply(.result)
      case .late: reply(.fault("\(RPCFault.deadlineCode): simulated"))
      case .unwanted: break
      }
      endIfDrained()
    }
    handlers[call.id] = (place, finish)
    timeline.after(timeline.milliseconds(workMs), finish)
  }

  func cancel(_ call: SimulatedCall) {
    running.cancel(call.rid)
    endCancelled()
  }

  private func cancelLate() {
    running.cancelLate(at: clock.now)
    endCancelled()
  }

  /// A handler whose task is cancelled ends at once.
  private func endCancelled() {
    for (_, known) in handlers.sorted(by: { $0.key < $1.key })
    where running.isCancelled(known.place) {
      known.end()
    }
  }
}
