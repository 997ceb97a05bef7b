internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// A worker as a simulated client knows it.
final class SimulatedCandidate: RPCCandidate {
  enum Connection {
    case none
    case connecting([(GrenacheError?) -> Void])
    case open(Int)
  }
  let endpoint: Endpoint
  var standing: WorkerStanding
  var connection = Connection.none
  /// Calls that the end of the connection ends.
  var inFlight: [Int: (SimulatedReply) -> Void] = [:]

  init(_ endpoint: Endpoint, sitOutTime: Duration) {
    self.endpoint = endpoint
    standing = WorkerStanding(sitOutTime: sitOutTime)
  }

  var isWarm: Bool { if case .open = connection { true } else { false } }
  var isConnecting: Bool { if case .connecting = connection { true } else { false } }
}

/// A client in virtual time. Who is called, how often and when is decided by the code of real ones.
final class SimulatedClient {
  static let connectTimeout = Duration.seconds(3)
  static let staleAge = Duration.seconds(120)

  typealias Completion = (GrenacheError?) -> Void
  private let timeline: Timeline
  private let network: CallNetwork
  private var cache = LookupCache(age: .seconds(10), entriesMax: 10)
  private let group: RPCWorkerGroup<SimulatedCandidate>
  private var candidates: [Endpoint: SimulatedCandidate] = [:]
  private var waiting: [(GrenacheError?) -> Void] = []
  private var isLookingUp = false

  init(_ network: CallNetwork, burstMax: Int) {
    self.network = network
    timeline = network.timeline
    group = RPCWorkerGroup(
      warmMax: 5, retries: RetryBudget(ratio: 0.1, burstMax: burstMax))
  }

  /// Whether no call is with any worker.
  var isIdle: Bool {
    waiting.isEmpty && candidates.values.allSatisfy { $0.standing.callsInFlight == 0 }
  }

  func call(_ call: SimulatedCall, _ done: @escaping Completion) {
    group.retries.deposit()
    var isOver = false
    let once: Completion = { error in
      guard !isOver else { return }
      isOver = true
      done(error)
    }
    let limits = RPCCallLimits(
      isIdempotent: call.isIdempotent, deadline: call.deadline, retriesMax: 2)
    let plan = RPCCallPlan<SimulatedCandidate>("service", limits)
    resolve(call, once) { self.step(call, plan, once) }
  }

  private func step(
    _ call: SimulatedCall, _ plan: RPCCallPlan<SimulatedCandidate>, _ done: @escaping Completion
  ) {
    switch plan.next(in: group, at: timeline.now, using: &timeline.generator) {
    case .call(let worker, let next):
      if let next, !next.isWarm, !next.isConnecting { connect(next) }
      attempt(call, worker) { [self] error in
        guard let error else { return done(nil) }
        let failure = plan.failed(
          error, at: worker, now: timeline.now, using: &timeline.generator)
        if let failure { return done(failure) }
        resolve(call, done) { self.step(call, plan, done) }
      }
    case .lookUp:
      cache.expire("service", at: timeline.now)
      resolve(call, isAnew: true, done) { self.step(call, plan, done) }
    case .fail(let error):
      cache.expire("service", at: timeline.now)
      done(error)
    }
  }

  // MARK: Lookups

  /// - Parameter isAnew: whether those who are known did not answer, so that they are called only while
  ///   no grape can be asked.
  private func resolve(
    _ call: SimulatedCall, isAnew: Bool = false, _ done: @escaping Completion,
    _ next: @escaping () -> Void
  ) {
    let now = timeline.now
    if let fresh = cache.endpoints(of: "service", at: now) {
      update(fresh)
      return next()
    }
    if !isAnew, let stale = cache.endpoints(of: "service", at: now, staleBy: Self.staleAge) {
      lookUp()
      update(stale)
      return next()
    }
    var isOver = false
    waiting.append { [self] error in
      guard !isOver else { return }
      isOver = true
      if let error {
        let stale = cache.endpoints(of: "service", at: timeline.now, staleBy: Self.staleAge)
        guard isAnew, stale != nil else { return done(error) }
      }
      if group.endpoints.isEmpty { return done(GrenacheError(.serviceNotFound, "nobody")) }
      next()
    }
    timeline.at(call.deadline) {
      guard !isOver else { return }
      isOver = true
      done(GrenacheError(.deadlineExceeded, "the lookup took too long"))
    }
    lookUp()
  }

  private func lookUp() {
    guard !isLookingUp else { return }
    isLookingUp = true
    network.lookUp { [self] found in
      isLookingUp = false
      if let found {
        cache.store(found, of: "service", at: timeline.now)
        update(found)
      }
      let told = waiting
      waiting = []
      for waiter in told {
        waiter(found == nil ? GrenacheError(.grapeUnreachable, "no grape") : nil)
      }
    }
  }

  private func update(_ found: [Endpoint]) {
    group.update(found) { endpoint in
      if let known = candidates[endpoint] { return known }
      let made = SimulatedCandidate(endpoint, sitOutTime: .milliseconds(250))
      candidates[endpoint] = made
      return made
    }
  }

  // MARK: Attempts

  private func attempt(
    _ call: SimulatedCall, _ worker: SimulatedCandidate, _ ended: @escaping Completion
  ) {
    worker.standing.callsInFlight += 1
    var isOver = false
    let finish: (GrenacheError?) -> Void = { [self] error in
      guard !isOver else { return }
      isOver = true
      worker.inFlight[call.id] = nil
      worker.standing.callsInFlight -= 1
      if let error {
        worker.standing.note(error.code, at: timeline.now, using: &timeline.generator)
      } else {
        worker.standing.noteAnswer()
      }
      ended(error)
    }
    var limit = call.deadline
    if let time = call.attemptTimeout { limit = min(limit, timeline.now + time) }
    let connectLimit = min(limit, timeline.now + Self.connectTimeout)
    var isSent = false
    timeline.at(connectLimit) { [self] in
      guard !isSent else { return }
      let isLate = limit <= timeline.now
      finish(GrenacheError(isLate ? .deadlineExceeded : .workerUnreachable, "not connected"))
    }
    timeline.at(limit) { [self] in
      guard isSent, !isOver else { return }
      finish(GrenacheError(.deadlineExceeded, "no answer"))
      if case .open = worker.connection { network.cancel(call, at: worker.endpoint) }
    }
    withConnection(worker) { [self] error in
      guard !isOver else { return }
      if let error { return finish(error) }
      guard case .open(let incarnation) = worker.connection else {
        return finish(GrenacheError(.workerUnreachable, "closed at once"))
      }
      isSent = true
      let reply: (SimulatedReply) -> Void = { reply in
        switch reply {
        case .result: finish(nil)
        case .fault(let text):
          finish(GrenacheError(RPCFault.code(of: text, isExtended: true), text))
        case .closed(inOrder: true): finish(GrenacheError(.workerUnreachable, "it shuts down"))
        case .closed(inOrder: false): finish(GrenacheError(.connectionLost, "it broke"))
        }
      }
      worker.inFlight[call.id] = reply
      network.send(
        call, timeLeft: limit - timeline.now, to: worker.endpoint, incarnation, reply)
    }
  }

  private func withConnection(
    _ worker: SimulatedCandidate, _ ready: @escaping (GrenacheError?) -> Void
  ) {
    switch worker.connection {
    case .open: ready(nil)
    case .connecting(let others): worker.connection = .connecting(others + [ready])
    case .none:
      connect(worker)
      guard case .connecting(let others) = worker.connection else { return }
      worker.connection = .connecting(others + [ready])
    }
  }

  private func connect(_ worker: SimulatedCandidate) {
    worker.connection = .connecting([])
    var isOver = false
    let finish: (Int?) -> Void = { [self] incarnation in
      guard !isOver, case .connecting(let waiting) = worker.connection else { return }
      isOver = true
      worker.connection = incarnation.map { .open($0) } ?? .none
      if incarnation == nil {
        worker.standing.sitOut(from: timeline.now, using: &timeline.generator)
      }
      let error = GrenacheError(.workerUnreachable, "it cannot be reached")
      for waiter in waiting { waiter(incarnation == nil ? error : nil) }
    }
    timeline.after(Self.connectTimeout) { finish(nil) }
    network.connect(to: worker.endpoint, finish) { inOrder in
      worker.connection = .none
      for (_, reply) in worker.inFlight.sorted(by: { $0.key < $1.key }) {
        reply(.closed(inOrder: inOrder))
      }
    }
  }
}
