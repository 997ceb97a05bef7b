internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// A client in virtual time, with a clock of its own. Who is called, how often and when, whether to a second
/// worker as well, and which grape is asked, is decided by the code of real ones.
final class SimulatedClient {
  static let staleAge = Duration.seconds(120)

  typealias Completion = (GrenacheError?) -> Void
  /// One attempt after the other of a call, of which a hedged call has two.
  private final class Runner {
    let call: SimulatedCall
    let plan: RPCCallPlan<SimulatedCandidate>
    var cancelAttempt: (() -> Void)?
    var isCancelled = false
    private var isOver = false
    private let completion: Completion

    init(
      _ call: SimulatedCall, _ plan: RPCCallPlan<SimulatedCandidate>,
      _ completion: @escaping Completion
    ) {
      self.call = call
      self.plan = plan
      self.completion = completion
    }

    func end(_ error: GrenacheError?) {
      guard !isOver else { return }
      isOver = true
      completion(error)
    }

    func cancel() {
      isCancelled = true
      cancelAttempt?()
    }
  }

  let clock: NodeClock
  let workers: SimulatedWorkers
  private let timeline: Timeline
  private let network: CallNetwork
  private let grapes: GrapeCaller
  private var cache = LookupCache(age: .seconds(10), entriesMax: 10)
  private let group: RPCWorkerGroup<SimulatedCandidate>
  private var waiting: [(GrenacheError?) -> Void] = []
  private var isLookingUp = false
  /// Told of calls that go on after they have been answered.
  var ignored: (SimulatedCall) -> Void = { _ in }

  init(_ number: Int, _ network: CallNetwork, burstMax: Int) {
    self.network = network
    timeline = network.timeline
    clock = NodeClock(timeline)
    grapes = GrapeCaller(network.grapes, clock)
    workers = SimulatedWorkers(number, network, clock)
    group = RPCWorkerGroup(
      warmMax: 5, retries: RetryBudget(ratio: 0.1, burstMax: burstMax))
  }

  /// Whether no call is under way.
  var isIdle: Bool { waiting.isEmpty && workers.isIdle }

  // MARK: Calls

  func call(_ call: SimulatedCall, _ done: @escaping Completion) {
    group.retries.deposit()
    let limits = RPCCallLimits(
      isIdempotent: call.isIdempotent, deadline: call.deadline, retriesMax: 2,
      grapes: network.grapes.count)
    let plan = RPCCallPlan<SimulatedCandidate>("service", limits)
    if let delay = call.hedgeDelay, call.isIdempotent {
      return hedge(call, plan, after: delay, done)
    }
    let runner = Runner(call, plan, done)
    cancelLater(call) { runner.cancel() }
    begin(runner)
  }

  private func cancelLater(_ call: SimulatedCall, _ cancel: @escaping () -> Void) {
    if let time = call.cancelledAfter { clock.after(time, cancel) }
  }

  private func begin(_ runner: Runner) {
    resolve(runner) { self.step(runner) }
  }

  private func step(_ runner: Runner) {
    if runner.isCancelled { return runner.end(GrenacheError(.cancelled, "cancelled")) }
    switch runner.plan.next(in: group, at: clock.now, using: &timeline.generator) {
    case .call(let worker, let next):
      if let next { workers.connect(to: next) }
      runner.cancelAttempt = workers.attempt(runner.call, worker) { [self] error in
        runner.cancelAttempt = nil
        guard let error else { return runner.end(nil) }
        let failure = runner.plan.failed(
          error, at: worker, now: clock.now, using: &timeline.generator)
        if let failure { return runner.end(failure) }
        begin(runner)
      }
    case .lookUp:
      cache.expire("service", at: clock.now)
      grapes.distrust()
      resolve(runner, isAnew: true) { self.step(runner) }
    case .fail(let error):
      cache.expire("service", at: clock.now)
      runner.end(error)
    }
  }

  // MARK: Hedging

  private func hedge(
    _ call: SimulatedCall, _ plan: RPCCallPlan<SimulatedCandidate>, after delay: Duration,
    _ done: @escaping Completion
  ) {
    var hedge = RPCHedge<Void>(at: clock.now, delay: delay, deadline: call.deadline)
    var runners: [Runner] = []
    var isOver = false
    var decide: () -> Void = {}
    func over(_ error: GrenacheError?) {
      guard !isOver else { return }
      isOver = true
      for runner in runners { runner.cancel() }
      done(error)
      // The closures hold one another until then.
      decide = {}
    }
    func run(isSecond: Bool) {
      let runner = Runner(call, plan) { [self] error in
        if hedge.ended(error.map { .failure($0) } ?? .success(())) { decide() }
        if error == nil, !isOver { ignored(call) }
      }
      runners.append(runner)
      if isSecond { beginSecond(runner) } else { begin(runner) }
    }
    decide = { [self] in
      guard !isOver else { return }
      switch hedge.next(at: clock.now) {
      case .startSecond:
        run(isSecond: true)
        decide()
      case .wait(let until):
        clock.at(until) { decide() }
      case .over(.success):
        over(nil)
      case .over(.failure(let error)):
        over(error)
      }
    }
    cancelLater(call) { over(GrenacheError(.cancelled, "cancelled")) }
    run(isSecond: false)
    decide()
  }

  private func beginSecond(_ runner: Runner) {
    resolve(runner) { [self] in
      if let failure = runner.plan.hedge(in: group) { return runner.end(failure) }
      begin(runner)
    }
  }

  // MARK: Map

  /// - Parameters:
  ///   - ids: what the call to the worker of that number is called.
  ///   - began: told of how many are under way.
  ///   - done: given the workers and what each answered, or why nobody is called.
  func map(
    _ call: SimulatedCall, limit: Int?, concurrencyMax: Int, ids: @escaping () -> Int,
    began: @escaping (Int) -> Void,
    _ done: @escaping (Result<[(Endpoint, GrenacheError?)], GrenacheError>) -> Void
  ) {
    let runner = Runner(
      call,
      RPCCallPlan(
        "service",
        RPCCallLimits(
          isIdempotent: false, deadline: call.deadline, retriesMax: 0))
    ) { error in
      if let error { done(.failure(error)) }
    }
    resolve(runner) { [self] in
      var plan = RPCMapPlan(
        cache.endpoints(of: "service", at: clock.now, staleBy: Self.staleAge) ?? group.endpoints,
        limit: limit, concurrencyMax: concurrencyMax, using: &timeline.generator)
      var results: [(Endpoint, GrenacheError?)] = []
      var underWay = 0
      func fill() {
        while let endpoint = plan.next() {
          underWay += 1
          began(underWay)
          group.retries.deposit()
          var one = call
          one.id = ids()
          _ = workers.attempt(one, workers.candidate(at: endpoint)) { error in
            underWay -= 1
            plan.ended()
            results.append((endpoint, error))
            fill()
          }
        }
        if underWay == 0 { done(.success(results)) }
      }
      fill()
    }
  }

  // MARK: Lookups

  /// - Parameter isAnew: whether those who are known did not answer, so that they are called only while
  ///   no grape can be asked.
  private func resolve(_ runner: Runner, isAnew: Bool = false, _ next: @escaping () -> Void) {
    let now = clock.now
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
      if isAnew { runner.plan.lookedUp() }
      if let error {
        let stale = cache.endpoints(of: "service", at: clock.now, staleBy: Self.staleAge)
        guard isAnew, stale != nil else { return runner.end(error) }
      }
      if group.endpoints.isEmpty {
        return runner.end(GrenacheError(.serviceNotFound, "nobody"))
      }
      next()
    }
    clock.at(runner.call.deadline) {
      guard !isOver else { return }
      isOver = true
      if isAnew { runner.plan.lookedUp() }
      runner.end(GrenacheError(.deadlineExceeded, "the lookup took too long"))
    }
    lookUp()
  }

  private func lookUp() {
    guard !isLookingUp else { return }
    isLookingUp = true
    grapes.lookUp { [self] result in
      isLookingUp = false
      var failure: GrenacheError?
      switch result {
      case .success(let found):
        cache.store(found, of: "service", at: clock.now)
        update(found)
      case .failure(let error):
        failure = error
      }
      let told = waiting
      waiting = []
      for waiter in told { waiter(failure) }
    }
  }

  private func update(_ found: [Endpoint]) {
    group.update(found) { workers.candidate(at: $0) }
  }
}
