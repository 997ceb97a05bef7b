internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// The state of a client, confined to its link's loop: the workers it knows and how they behave.
final class RPCClientCore {
  /// Workers that are remembered; beyond it, those without connections are forgotten.
  static let workersMax = 10_000

  private let link: Link
  private let configuration: PeerRPCClientConfiguration
  private let http: RPCHTTPCaller
  private var workers: [WorkerKey: RPCWorker] = [:]
  private var groups: [String: RPCWorkerGroup<RPCWorker>] = [:]
  private var callsInFlight = 0
  /// How often the client has been closed: a call that began before is not sent again.
  private var closings = 0
  /// What calls of workers that were named may have sent again; of others each service has its own.
  private var namedRetries: RetryBudget
  private var generator = FastGenerator()

  init(link: Link, configuration: PeerRPCClientConfiguration) {
    self.link = link
    self.configuration = configuration
    http = RPCHTTPCaller(context: link.context, configuration: configuration)
    namedRetries = Self.retryBudget(configuration)
  }

  private static func retryBudget(_ configuration: PeerRPCClientConfiguration) -> RetryBudget {
    RetryBudget(ratio: configuration.retryRatio, burstMax: configuration.retryBurstMax)
  }

  /// A worker by its address and by who it must be: a connection that was verified for one service
  /// carries no calls of another.
  private struct WorkerKey: Hashable {
    var endpoint: Endpoint
    var service: String
    /// Whether the caller has named the address, which then is a proof as well.
    var isNamed: Bool
  }

  /// The workers that are remembered.
  var workerCount: Int { workers.count }

  /// Whether each of a service's workers is passed over at present.
  func sitsOut(_ service: String, at now: MonotonicTime) -> [Bool] {
    groups[service]?.workers.map { !$0.standing.isReady(at: now) } ?? []
  }

  // MARK: Operations

  func request(
    _ call: RPCCall, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    guard callsInFlight < configuration.callsInFlightMax else {
      throw GrenacheError(.limitReached, "\(callsInFlight) calls are in flight already")
    }
    var call = call
    call.closings = closings
    callsInFlight += 1
    defer { callsInFlight -= 1 }
    if let worker = call.options.worker {
      namedRetries.deposit()
      let named = self.worker(at: worker, call.service, isNamed: !call.isWorkerFound)
      return try await named.call(
        call, by: call.limit, mayRepeat: { self.namedRetries.withdraw() }, on: loop)
    }
    if let delay = call.options.hedgeDelay, call.options.isIdempotent {
      return try await hedge(call, after: delay, on: loop)
    }
    // Most calls need one attempt, and nothing but that.
    let group = try await group(for: call.service, worker: nil, by: call.deadline, on: loop)
    group.retries.deposit()
    try checkOpen(call)
    guard
      let choice = group.choose(avoiding: [], at: loop.core.now, using: &generator)
    else { return try await attempts(call, plan(call), on: loop) }
    choice.warmUp?.warmUp(on: loop)
    let worker = choice.worker
    call.hasOthers = group.workers.count > 1
    do throws(GrenacheError) {
      return try await worker.call(
        call, by: call.limit, mayRepeat: { group.retries.withdraw() }, on: loop)
    } catch {
      if error.code == .connectedElsewhere { try checkOpen(call) }
      guard call.closings == closings else { throw error }
      let plan = plan(call, tried: [worker])
      if let failure = failed(error, worker, plan) { throw failure }
      return try await attempts(call, plan, on: loop)
    }
  }

  func openStream(
    _ service: String, _ head: RPCStreamHead, to worker: Endpoint?,
    by deadlines: RPCStreamDeadlines,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCClientStream {
    let deadline = deadlines.reply
    var group = try await group(for: service, worker: worker, by: deadline, on: loop)
    // A stream that has reached nobody may go to the next worker, and none is sent again.
    let limits = RPCCallLimits(isIdempotent: false, deadline: deadline, retriesMax: 0)
    let plan = RPCCallPlan<RPCWorker>(service, limits)
    while true {
      switch plan.next(in: group, at: loop.core.now, using: &generator) {
      case .call(let worker, warmUp: _):
        var fields = head.fields
        deadlines.append(to: &fields, at: .now())
        let hasOthers = group.workers.count > plan.tried.count
        do throws(GrenacheError) {
          let stream = try await worker.openStream(
            service, fields, by: deadline, hasOthers: hasOthers, on: loop)
          return RPCClientStream(stream, worker: worker.endpoint, deadlines: deadlines)
        } catch {
          if let failure = failed(error, worker, plan) { throw failure }
        }
      case .lookUp:
        defer { plan.lookedUp() }
        if worker == nil {
          group = try await groupAnew(for: service, by: deadline, on: loop)
        }
      case .fail(let error):
        throw error
      }
    }
  }

  func close(on loop: isolated EventLoop) {
    closings += 1
    for worker in workers.values { worker.close(on: loop) }
    workers = [:]
    groups = [:]
    http.close(on: loop)
  }

  // MARK: Attempts

  private func plan(_ call: RPCCall, tried: [RPCWorker] = []) -> RPCCallPlan<RPCWorker> {
    let limits = RPCCallLimits(
      isIdempotent: call.options.isIdempotent, deadline: call.deadline,
      retriesMax: configuration.retriesMax, grapes: link.configuration.grapes.count)
    return RPCCallPlan(call.service, limits, tried: tried)
  }

  /// - Throws: when the client has been closed since the call began: no connection is made for it.
  private func checkOpen(_ call: RPCCall) throws(GrenacheError) {
    guard call.closings == closings else {
      throw GrenacheError(.workerUnreachable, "the client has been closed")
    }
  }

  private func failed(
    _ error: GrenacheError, _ worker: RPCWorker, _ plan: RPCCallPlan<RPCWorker>
  ) -> GrenacheError? {
    plan.failed(error, at: worker, now: .now(), using: &generator)
  }

  /// Sends the call to one worker after the other, as its plan says.
  private func attempts(
    _ call: RPCCall, _ plan: RPCCallPlan<RPCWorker>, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    let service = call.service
    var call = call
    var group = try await group(for: service, worker: nil, by: call.deadline, on: loop)
    while true {
      try checkOpen(call)
      switch plan.next(in: group, at: loop.core.now, using: &generator) {
      case .call(let worker, let next):
        next?.warmUp(on: loop)
        call.hasOthers = group.workers.count > plan.tried.count
        let retried = group
        do throws(GrenacheError) {
          return try await worker.call(
            call, by: call.limit, mayRepeat: { retried.retries.withdraw() }, on: loop)
        } catch {
          if error.code == .connectedElsewhere { try checkOpen(call) }
          guard call.closings == closings else { throw error }
          if let failure = failed(error, worker, plan) { throw failure }
        }
      case .lookUp:
        defer { plan.lookedUp() }
        group = try await groupAnew(for: service, by: call.deadline, on: loop)
      case .fail(let error):
        link.core(on: loop).expire(service, on: loop)
        throw error
      }
    }
  }

  // MARK: Hedging

  /// Sends the call to a second worker when the first takes long; the first answer counts.
  private func hedge(
    _ call: RPCCall, after delay: Duration, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    groups[call.service]?.retries.deposit()
    let race = RPCRace(RPCHedge(at: .now(), delay: delay, deadline: call.deadline))
    // Both know whom the other has called.
    let plan = plan(call)
    start(call, plan, isSecond: false, in: race, on: loop)
    while true {
      switch race.hedge.next(at: .now()) {
      case .startSecond:
        start(call, plan, isSecond: true, in: race, on: loop)
      case .wait(let until):
        guard await race.wait(until: until, on: loop) else {
          race.cancel()
          throw GrenacheError(.cancelled, "the call of \(call.service) was cancelled")
        }
      case .over(let result):
        race.cancel()
        return try result.get()
      }
    }
  }

  private func secondAttempts(
    _ call: RPCCall, _ plan: RPCCallPlan<RPCWorker>, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    let group = try await group(for: call.service, worker: nil, by: call.deadline, on: loop)
    if let failure = plan.hedge(in: group) { throw failure }
    return try await attempts(call, plan, on: loop)
  }

  private func start(
    _ call: RPCCall, _ plan: RPCCallPlan<RPCWorker>, isSecond: Bool, in race: RPCRace,
    on loop: isolated EventLoop
  ) {
    race.tasks.append(
      Task {
        do throws(GrenacheError) {
          let reply =
            isSecond
            ? try await secondAttempts(call, plan, on: loop)
            : try await attempts(call, plan, on: loop)
          race.ended(.success(reply), on: loop)
        } catch {
          race.ended(.failure(error), on: loop)
        }
      })
  }

  // MARK: Workers

  /// The workers that may be called: the one that was named, or those that a lookup finds.
  private func group(
    for service: String, worker: Endpoint?, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCWorkerGroup<RPCWorker> {
    if let worker {
      let group = RPCWorkerGroup<RPCWorker>(warmMax: 1, retries: namedRetries)
      group.update([worker]) { self.worker(at: $0, service, isNamed: true) }
      return group
    }
    let link = link.core(on: loop)
    if let known = link.known(service, on: loop) { return try group(for: service, of: known) }
    return try group(
      for: service, of: try await link.lookup(service, by: deadline, on: loop))
  }

  /// The workers that a lookup finds now, or those that are known while nobody can be asked.
  private func groupAnew(
    for service: String, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCWorkerGroup<RPCWorker> {
    let link = link.core(on: loop)
    return try group(
      for: service, of: try await link.lookupAnew(service, by: deadline, on: loop))
  }

  private func group(
    for service: String, of found: [Endpoint]
  ) throws(GrenacheError) -> RPCWorkerGroup<RPCWorker> {
    guard !found.isEmpty else {
      throw GrenacheError(.serviceNotFound, "no worker announces \(service)")
    }
    let group: RPCWorkerGroup<RPCWorker>
    if let known = groups[service] {
      group = known
    } else {
      group = RPCWorkerGroup(
        warmMax: configuration.activeWorkersMax, retries: Self.retryBudget(configuration))
      if groups.count >= Self.workersMax { groups = [:] }
      groups[service] = group
    }
    group.update(found) { self.worker(at: $0, service, isNamed: false) }
    return group
  }

  /// Whoever waits for another worker of the service to be connected to need not any longer.
  func connected(to worker: RPCWorker, on loop: isolated EventLoop) {
    guard let group = groups[worker.service], group.workers.contains(where: { $0 === worker })
    else { return }
    for other in group.workers where other !== worker { other.moveWaiters(on: loop) }
  }

  private func worker(
    at endpoint: Endpoint, _ service: String, isNamed: Bool
  ) -> RPCWorker {
    let key = WorkerKey(endpoint: endpoint, service: service, isNamed: isNamed)
    if let known = workers[key] { return known }
    // Nobody vouches for what a lookup has found: who answers it could name an address of their own.
    let address = isNamed || configuration.acceptsInsecureWorkersByAddress ? endpoint.host : nil
    let verification = configuration.verification ?? .service(service, orAddress: address)
    let made = RPCWorker(
      Destination(endpoint, verification: verification), for: service, context: link.context,
      http: http,
      configuration: configuration, core: self)
    if workers.count >= Self.workersMax { workers = workers.filter { !$0.value.isUnused } }
    workers[key] = made
    return made
  }
}
