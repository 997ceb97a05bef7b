internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// The state of a client, confined to its link's loop: the workers it knows and how they behave.
final class RPCClientCore {
  /// How many workers one call tries to reach.
  static let reachedMax = 8
  /// Workers that are remembered; beyond it, those without connections are forgotten.
  static let workersMax = 10_000

  private let link: Link
  private let configuration: PeerRPCClientConfiguration
  private let http: RPCHTTPCaller
  private var workers: [WorkerKey: RPCWorker] = [:]
  private var groups: [String: RPCWorkerGroup] = [:]
  private var callsInFlight = 0
  /// How often the client has been closed: a call that began before is not sent again.
  private var closings = 0
  private var retries: RetryBudget
  private var generator = FastGenerator()

  init(link: Link, configuration: PeerRPCClientConfiguration) {
    self.link = link
    self.configuration = configuration
    http = RPCHTTPCaller(context: link.context, configuration: configuration)
    retries = RetryBudget(
      ratio: configuration.retryRatio, burstMax: configuration.retryBurstMax)
  }

  /// A worker by its address and by who it must be: a connection that was verified for one service
  /// carries no calls of another.
  private struct WorkerKey: Hashable {
    var endpoint: Endpoint
    var service: String
    /// Whether the caller has named the address, which then is a proof as well.
    var isNamed: Bool
  }

  // MARK: Operations

  func request(
    _ call: RPCCall, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    guard callsInFlight < configuration.callsInFlightMax else {
      throw GrenacheError(.limitReached, "\(callsInFlight) calls are in flight already")
    }
    callsInFlight += 1
    defer { callsInFlight -= 1 }
    retries.deposit()
    if let worker = call.options.worker {
      let named = self.worker(at: worker, call.service, isNamed: !call.isWorkerFound)
      return try await named.call(call, by: call.limit, on: loop)
    }
    if let delay = call.options.hedgeDelay, call.options.isIdempotent {
      return try await hedge(call, after: delay, on: loop)
    }
    let closings = closings
    // Most calls need one attempt, and nothing but that.
    let group = try await group(for: call.service, worker: nil, by: call.deadline, on: loop)
    guard let worker = group.choose(avoiding: [], using: &generator, on: loop) else {
      throw unreachable(call.service, RPCAttempts(closings: closings), on: loop)
    }
    do throws(GrenacheError) {
      return try await worker.call(call, by: call.limit, on: loop)
    } catch {
      let tried = RPCAttempts(closings: closings)
      tried.workers = [worker]
      try tried.note(error, call.deadline)
      try checkRetry(error, call, tried, worker)
      return try await attempts(call, tried, on: loop)
    }
  }

  func openStream(
    _ service: String, _ action: String?, to worker: Endpoint?, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCClientStream {
    let group = try await group(for: service, worker: worker, by: deadline, on: loop)
    var fields = HTTPFields()
    if let action { fields.append(RPCHTTPHead.actionField, action) }
    let tried = RPCAttempts(closings: closings)
    while let worker = group.choose(avoiding: tried.workers, using: &generator, on: loop) {
      tried.workers.append(worker)
      do throws(GrenacheError) {
        let stream = try await worker.openStream(service, fields, by: deadline, on: loop)
        return RPCClientStream(stream, worker: worker.endpoint, replyDeadline: deadline)
      } catch {
        try tried.note(error, deadline)
      }
    }
    throw unreachable(service, tried, on: loop)
  }

  func close(on loop: isolated EventLoop) {
    closings += 1
    for worker in workers.values { worker.close(on: loop) }
    workers = [:]
    groups = [:]
    http.close(on: loop)
  }

  // MARK: Attempts

  /// Sends the call to one worker after the other, as long as that does no harm and may help.
  private func attempts(
    _ call: RPCCall, _ tried: RPCAttempts, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    let service = call.service
    var group = try await group(for: service, worker: nil, by: call.deadline, on: loop)
    var hasLookedUp = false
    while true {
      guard let worker = group.choose(avoiding: tried.workers, using: &generator, on: loop) else {
        // What was known may be old: those who announce the service now are asked, too.
        guard !hasLookedUp else { throw unreachable(service, tried, on: loop) }
        hasLookedUp = true
        link.core(on: loop).forget(service)
        let before = group.endpoints
        group = try await self.group(for: service, worker: nil, by: call.deadline, on: loop)
        if group.endpoints == before { throw unreachable(service, tried, on: loop) }
        continue
      }
      tried.workers.append(worker)
      do throws(GrenacheError) {
        return try await worker.call(call, by: call.limit, on: loop)
      } catch {
        try tried.note(error, call.deadline)
        try checkRetry(error, call, tried, worker)
      }
    }
  }

  /// Whether the call may be sent again after `error`.
  ///
  /// A call that has reached nobody may go to the next worker; one that a worker turned away, too, but
  /// as a retry that counts. One that may have been carried out is sent again only if it is idempotent.
  private func checkRetry(
    _ error: GrenacheError, _ call: RPCCall, _ tried: RPCAttempts, _ worker: RPCWorker
  ) throws(GrenacheError) {
    guard tried.closings == closings else { throw error }
    switch error.code {
    case .workerUnreachable, .workerNotTrusted:
      guard tried.workers.count < Self.reachedMax else { throw error }
    case .overloaded:
      guard tried.retries < configuration.retriesMax, retries.withdraw() else { throw error }
      tried.retries += 1
    case .connectionLost, .deadlineExceeded, .invalidReply:
      guard call.options.isIdempotent, call.deadline > .now(),
        tried.retries < configuration.retriesMax, retries.withdraw()
      else { throw error }
      tried.retries += 1
      worker.sitOut(from: .now())
    default:
      throw error
    }
  }

  private func unreachable(
    _ service: String, _ tried: RPCAttempts, on loop: isolated EventLoop
  ) -> GrenacheError {
    link.core(on: loop).forget(service)
    // Who could not prove who it is says more than who was not there.
    return tried.failure ?? GrenacheError(.workerUnreachable, "no worker of \(service) is left")
  }

  // MARK: Hedging

  /// Sends the call to a second worker when the first takes long; the first answer counts.
  private func hedge(
    _ call: RPCCall, after delay: Duration, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    let race = RPCRace()
    let tried = RPCAttempts(closings: closings)
    start(call, tried, in: race, on: loop)
    var outcome = await race.wait(until: min(call.deadline, .now() + delay), on: loop)
    if case .undecided = outcome {
      if call.deadline > .now(), retries.withdraw() { start(call, tried, in: race, on: loop) }
      outcome = await race.wait(until: call.deadline, on: loop)
    }
    race.cancel()
    switch outcome {
    case .decided(let result): return try result.get()
    case .cancelled: throw GrenacheError(.cancelled, "the call of \(call.service) was cancelled")
    case .undecided:
      throw GrenacheError(.deadlineExceeded, "\(call.service) was not answered in time")
    }
  }

  private func start(
    _ call: RPCCall, _ tried: RPCAttempts, in race: RPCRace, on loop: isolated EventLoop
  ) {
    race.runners += 1
    race.tasks.append(
      Task {
        do throws(GrenacheError) {
          race.ended(.success(try await attempts(call, tried, on: loop)), on: loop)
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
  ) async throws(GrenacheError) -> RPCWorkerGroup {
    if let worker {
      let group = RPCWorkerGroup(warmMax: 1)
      group.update([worker]) { self.worker(at: $0, service, isNamed: true) }
      return group
    }
    let link = link.core(on: loop)
    let found: [Endpoint]
    if let known = link.known(service, on: loop) {
      found = known
    } else {
      found = try await link.lookup(service, by: deadline, on: loop)
    }
    guard !found.isEmpty else {
      throw GrenacheError(.serviceNotFound, "no worker announces \(service)")
    }
    let group: RPCWorkerGroup
    if let known = groups[service] {
      group = known
    } else {
      group = RPCWorkerGroup(warmMax: configuration.activeWorkersMax)
      if groups.count >= Self.workersMax { groups = [:] }
      groups[service] = group
    }
    group.update(found) { self.worker(at: $0, service, isNamed: false) }
    return group
  }

  private func worker(
    at endpoint: Endpoint, _ service: String, isNamed: Bool
  ) -> RPCWorker {
    let key = WorkerKey(endpoint: endpoint, service: service, isNamed: isNamed)
    if let known = workers[key] { return known }
    // Nobody vouches for what a lookup has found: who answers it could name an address of their own.
    let address = isNamed || configuration.acceptsWorkersByAddress ? endpoint.host : nil
    let verification = configuration.verification ?? .service(service, address: address)
    let made = RPCWorker(
      Destination(endpoint, verification: verification), context: link.context, http: http,
      configuration: configuration)
    if workers.count >= Self.workersMax { workers = workers.filter { !$0.value.isUnused } }
    workers[key] = made
    return made
  }
}
