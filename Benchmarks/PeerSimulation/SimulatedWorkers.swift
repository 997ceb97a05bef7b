internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// A worker as a simulated client knows it.
final class SimulatedCandidate: RPCCandidate {
  enum State {
    case none
    case connecting([(GrenacheError?) -> Void])
    case open(SimulatedConnection)
  }
  let endpoint: Endpoint
  var standing: WorkerStanding
  var state = State.none
  /// Calls that the end of the connection ends.
  var inFlight: [Int: (GrenacheError) -> Void] = [:]
  /// Calls that have been sent to it, ever.
  var sent: Set<Int> = []

  init(_ endpoint: Endpoint, sitOutTime: Duration) {
    self.endpoint = endpoint
    standing = WorkerStanding(sitOutTime: sitOutTime)
  }

  var isWarm: Bool { if case .open = state { true } else { false } }
  var isConnecting: Bool { if case .connecting = state { true } else { false } }
}

/// What a simulated client does with one worker: it connects, sends, waits and cancels.
final class SimulatedWorkers {
  static let connectTimeout = Duration.seconds(3)

  typealias Completion = (GrenacheError?) -> Void
  private let client: Int
  private let network: CallNetwork
  private let timeline: Timeline
  private let clock: NodeClock
  private var candidates: [Endpoint: SimulatedCandidate] = [:]
  /// Told of calls whose handler still runs when its caller has not waited for it any more for long enough.
  var outlived: (SimulatedCall) -> Void = { _ in }
  /// Told of calls that go to one worker twice.
  var sentAgain: (SimulatedCall) -> Void = { _ in }

  init(_ client: Int, _ network: CallNetwork, _ clock: NodeClock) {
    self.client = client
    self.network = network
    self.clock = clock
    timeline = network.timeline
  }

  /// Whether no call is with any of them.
  var isIdle: Bool {
    candidates.values.allSatisfy { $0.standing.callsInFlight == 0 && $0.inFlight.isEmpty }
  }

  func candidate(at endpoint: Endpoint) -> SimulatedCandidate {
    if let known = candidates[endpoint] { return known }
    let made = SimulatedCandidate(endpoint, sitOutTime: .milliseconds(250))
    candidates[endpoint] = made
    return made
  }

  /// Makes a call.
  ///
  /// - Returns: what cancels it.
  func attempt(
    _ call: SimulatedCall, _ worker: SimulatedCandidate, _ ended: @escaping Completion
  ) -> () -> Void {
    worker.standing.callsInFlight += 1
    var isOver = false
    var connection: SimulatedConnection?
    let finish: Completion = { [self] error in
      guard !isOver else { return }
      isOver = true
      worker.inFlight[call.id] = nil
      worker.standing.callsInFlight -= 1
      if let error {
        worker.standing.note(
          error.code, isSent: connection != nil, at: clock.now, using: &timeline.generator)
      } else {
        worker.standing.noteAnswer()
      }
      if let connection { expectEnd(of: call, over: connection) }
      ended(error)
    }
    /// Who does not wait any more says so, where something has been sent.
    let giveUp: (GrenacheError) -> Void = { [self] error in
      guard !isOver else { return }
      if let connection, !connection.isClosed { network.cancel(call, over: connection) }
      finish(error)
    }
    var limit = call.deadline
    if let time = call.attemptTimeout { limit = min(limit, clock.now + time) }
    clock.at(min(limit, clock.now + Self.connectTimeout)) { [self] in
      guard connection == nil else { return }
      let isLate = limit <= clock.now
      finish(GrenacheError(isLate ? .deadlineExceeded : .workerUnreachable, "not connected"))
    }
    clock.at(limit) {
      if connection != nil { giveUp(GrenacheError(.deadlineExceeded, "no answer")) }
    }
    withConnection(worker) { [self] error in
      guard !isOver else { return }
      if let error { return finish(error) }
      guard case .open(let open) = worker.state else {
        return finish(GrenacheError(.workerUnreachable, "closed at once"))
      }
      connection = open
      worker.inFlight[call.id] = finish
      if !worker.sent.insert(call.id).inserted { sentAgain(call) }
      expectEnd(of: call, by: limit, at: open)
      network.send(call, timeoutMs: limit.millisecondsLeft(at: clock.now), over: open) { reply in
        switch reply {
        case .result: finish(nil)
        case .fault(let text):
          finish(GrenacheError(RPCFault.code(of: text, isExtended: true), text))
        }
      }
    }
    return { giveUp(GrenacheError(.cancelled, "the call was cancelled")) }
  }

  /// P33: one way after a call is over, its handler has been told.
  private func expectEnd(of call: SimulatedCall, over connection: SimulatedConnection) {
    timeline.after(.milliseconds(network.latencyMs.upperBound + 10)) { [self] in
      if connection.reaches, !connection.isClosed, connection.server.isHandling(call) {
        outlived(call)
      }
    }
  }

  /// P32: the worker knows by itself when nobody waits any more, whether it is told or not; clocks that
  /// disagree move that by a part of the time that was left.
  private func expectEnd(
    of call: SimulatedCall, by limit: MonotonicTime, at connection: SimulatedConnection
  ) {
    let grace = network.latencyMs.upperBound + SimulatedServer.turnMsMax + 10
    clock.at(limit + (limit - clock.now) * 0.05 + .milliseconds(grace)) { [self] in
      let server = connection.server
      if server.incarnation == connection.incarnation, server.isHandling(call) { outlived(call) }
    }
  }

  private func withConnection(
    _ worker: SimulatedCandidate, _ ready: @escaping (GrenacheError?) -> Void
  ) {
    if case .open = worker.state { return ready(nil) }
    connect(to: worker)
    guard case .connecting(let others) = worker.state else { return }
    worker.state = .connecting(others + [ready])
  }

  func connect(to worker: SimulatedCandidate) {
    guard case .none = worker.state else { return }
    worker.state = .connecting([])
    var isOver = false
    let finish: (SimulatedConnection?) -> Void = { [self] connection in
      guard !isOver, case .connecting(let waiting) = worker.state else { return }
      isOver = true
      worker.state = connection.map { .open($0) } ?? .none
      if connection == nil {
        worker.standing.sitOut(from: clock.now, using: &timeline.generator)
      }
      let error = GrenacheError(.workerUnreachable, "it cannot be reached")
      for waiter in waiting { waiter(connection == nil ? error : nil) }
    }
    clock.after(Self.connectTimeout) { finish(nil) }
    network.connect(client, to: worker.endpoint, finish) { inOrder in
      guard case .open = worker.state else { return }
      worker.state = .none
      // A worker that goes away in order has answered what it had begun.
      let error = GrenacheError(inOrder ? .workerUnreachable : .connectionLost, "it is gone")
      for (_, end) in worker.inFlight.sorted(by: { $0.key < $1.key }) { end(error) }
    }
  }
}
