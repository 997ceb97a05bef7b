internal import GrenacheIO
public import GrenacheTransport

/// What one worker answered to a call that went to several.
public struct RPCMapResult<Output: Sendable>: Sendable {
  /// The worker that was called.
  public let worker: Endpoint
  /// What it answered, or why there is nothing.
  public let result: Result<Output, GrenacheError>
}

extension PeerRPCClient {
  /// Calls every worker of `service`, or `limit` of them drawn by chance, up to
  /// `mapConcurrencyMax` at the same time, and gives what each answered: one that fails fails for itself
  /// alone.
  ///
  /// - Returns: one result for each worker that was called, in no particular order.
  /// - Throws: `GrenacheError` when nobody can be called: the lookup's, `serviceNotFound`,
  ///   `invalidPayload`.
  public func mapRaw(
    _ service: String, _ payload: [UInt8], limit: Int? = nil, within timeout: Duration? = nil,
    options: RPCCallOptions = RPCCallOptions()
  ) async throws(GrenacheError) -> [RPCMapResult<RPCReply>] {
    try Self.check(payload, of: service)
    let time = timeout ?? options.timeout ?? configuration.callTimeout
    let clock = ContinuousClock()
    let end = clock.now + time
    let deadline = MonotonicTime.now() + time
    let core = link.core
    let workers = try await Self.workers(of: service, core, by: deadline, on: core.loop)
    guard !workers.isEmpty else {
      throw GrenacheError(.serviceNotFound, "no worker announces \(service)")
    }
    var generator = SystemRandomNumberGenerator()
    let plan = RPCMapPlan(
      workers, limit: limit, concurrencyMax: configuration.mapConcurrencyMax, using: &generator)
    return await withTaskGroup(of: RPCMapResult<RPCReply>.self) { group in
      var plan = plan
      var results: [RPCMapResult<RPCReply>] = []
      while true {
        while let worker = plan.next() {
          group.addTask {
            do throws(GrenacheError) {
              let reply = try await self.requestRaw(
                service, payload, to: worker, isFound: true, within: end - clock.now,
                options: options)
              return RPCMapResult(worker: worker, result: .success(reply))
            } catch {
              return RPCMapResult(worker: worker, result: .failure(error))
            }
          }
        }
        guard let result = await group.next() else { return results }
        plan.ended()
        results.append(result)
      }
    }
  }

  /// The same with `Codable` payload and results; what cannot be decoded is that worker's `invalidReply`.
  public func map<Payload: Encodable, Output: Decodable & Sendable>(
    _ service: String, _ payload: Payload, as type: Output.Type = Output.self, limit: Int? = nil,
    within timeout: Duration? = nil, options: RPCCallOptions = RPCCallOptions()
  ) async throws(GrenacheError) -> [RPCMapResult<Output>] {
    let coding = configuration.coding
    let results = try await mapRaw(
      service, try coding.encode(payload), limit: limit, within: timeout, options: options)
    return results.map { one in
      let decoded = one.result.flatMap { reply in
        Result { () throws(GrenacheError) in try reply.decode(type, coding: coding) }
      }
      return RPCMapResult(worker: one.worker, result: decoded)
    }
  }

  private static func workers(
    of service: String, _ core: LoopBound<LinkCore>, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [Endpoint] {
    try await core.get(on: loop).lookupOrKnown(service, by: deadline, on: loop)
  }
}
