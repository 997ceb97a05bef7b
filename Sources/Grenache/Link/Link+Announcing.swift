internal import GrenacheIO
internal import Logging

extension Link {
  /// Announces that this host serves `service` on `port` for as long as `body` runs, then withdraws it.
  ///
  ///     try await link.announcing("rpc_test", port: 1337) {
  ///       try await serve()
  ///     }
  ///
  /// It is announced before `body` begins, and again well before grapes forget it; what goes wrong in
  /// between is logged and tried again.
  ///
  /// - Throws: what the first announcement fails with, once it is withdrawn, for a grape may have heard it all
  ///   the same; and what `body` throws.
  public func announcing<Result: Sendable>(
    _ service: String, port: UInt16, _ body: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    try await withFreshCertificates {
      do {
        try await self.announce(service, port: port)
        let result = try await self.whileAnnounced(service, port: port, body)
        await self.withdrawQuietly([service], port: port)
        return result
      } catch {
        await self.withdrawQuietly([service], port: port)
        throw error
      }
    }
  }

  private func whileAnnounced<Result: Sendable>(
    _ service: String, port: UInt16, _ body: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    try await withThrowingTaskGroup(of: Result?.self) { group in
      group.addTask {
        await self.keepAnnouncing(service, port: port)
        return nil
      }
      group.addTask { try await body() }
      while let ended = try await group.next() {
        guard let result = ended else { continue }
        group.cancelAll()
        return result
      }
      throw CancellationError()
    }
  }

  /// Says that this host serves `service` on `port` no more, to all grapes at once: the announcement may have
  /// been renewed at another one than the first, and be kept there alone.
  ///
  /// - Returns: whether one of them understood; existing grapes forget only with time.
  /// - Throws: `GrenacheError` when none has answered.
  @discardableResult
  public func withdraw(
    _ service: String, port: UInt16, within timeout: Duration = .seconds(5)
  ) async throws(GrenacheError) -> Bool {
    let core = core
    return try await Self.withdraw(service, port, within: timeout, core: core, on: core.loop)
  }

  /// Withdraws services at the end of something, whether its task is cancelled or not; a grape that
  /// cannot be reached then forgets them by itself.
  func withdrawQuietly(_ services: [String], port: UInt16) async {
    await Task {
      await withTaskGroup { group in
        for service in services {
          group.addTask {
            do {
              try await self.withdraw(service, port: port, within: .seconds(2))
            } catch {
              self.logger.info(
                "withdrawing failed", metadata: ["service": "\(service)", "error": "\(error)"])
            }
          }
        }
      }
    }.value
  }

  private static func withdraw(
    _ service: String, _ port: UInt16, within timeout: Duration, core: LoopBound<LinkCore>,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> Bool {
    let grapes = Set(core.get(on: loop).configuration.grapes)
    let deadline = MonotonicTime.now() + timeout
    var isWithdrawn: Bool?
    var failure = GrenacheError(.grapeUnreachable, "no grape answered")
    await withTaskGroup(of: Result<Bool, GrenacheError>.self) { group in
      for grape in grapes {
        group.addTask {
          await withdraw(service, port, at: grape, by: deadline, core: core, on: core.loop)
        }
      }
      for await outcome in group {
        switch outcome {
        case .success(let understood): isWithdrawn = isWithdrawn == true || understood
        case .failure(let error): failure = error
        }
      }
    }
    guard let isWithdrawn else { throw failure }
    return isWithdrawn
  }

  private static func withdraw(
    _ service: String, _ port: UInt16, at grape: Endpoint, by deadline: MonotonicTime,
    core: LoopBound<LinkCore>, on loop: isolated EventLoop
  ) async -> Result<Bool, GrenacheError> {
    await core.get(on: loop).withdraw(service, port: port, at: grape, by: deadline, on: loop)
  }
}
