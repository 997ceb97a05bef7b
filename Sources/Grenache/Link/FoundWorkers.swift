internal import GrenacheIO
public import GrenacheTransport

/// The workers of a service as a lookup finds them, each once: the first of them comes as soon as one node
/// of the DHT has named it, not when all have been asked.
///
///     for try await worker in link.workers(of: "rpc_test") {
///       print(worker)
///       break  // which ends the lookup
///     }
///
/// Each loop over it is a lookup of its own. As many workers as `LinkConfiguration.workersMax` wait to be
/// taken, and are given in all.
public struct FoundWorkers: AsyncSequence, Sendable {
  /// Where a worker is.
  public typealias Element = Endpoint
  /// What a lookup fails with.
  public typealias Failure = GrenacheError

  private let service: String
  private let timeout: Duration
  private let core: LoopBound<LinkCore>

  init(of service: String, within timeout: Duration, core: LoopBound<LinkCore>) {
    self.service = service
    self.timeout = timeout
    self.core = core
  }

  /// Gives one worker after the other.
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var found: AsyncStream<Result<Endpoint, GrenacheError>>.Iterator

    /// The next worker; `nil` when there are no more.
    ///
    /// - Throws: `GrenacheError`, as `Link.lookup`, when it is not known whether there are more.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(GrenacheError) -> Endpoint? {
      if let result = await found.next(isolation: actor) { return try result.get() }
      guard !Task.isCancelled else {
        throw GrenacheError(.cancelled, "the lookup was cancelled")
      }
      return nil
    }
  }

  /// Begins a lookup, which ends when the iterator is let go of.
  public func makeAsyncIterator() -> AsyncIterator {
    let (found, continuation) = AsyncStream.makeStream(of: Result<Endpoint, GrenacheError>.self)
    let (core, service) = (core, service)
    let deadline = MonotonicTime.now() + timeout
    let task = Task {
      await Self.lookUp(service, by: deadline, telling: continuation, core, on: core.loop)
    }
    continuation.onTermination = { _ in task.cancel() }
    return AsyncIterator(found: found.makeAsyncIterator())
  }

  private static func lookUp(
    _ service: String, by deadline: MonotonicTime,
    telling found: AsyncStream<Result<Endpoint, GrenacheError>>.Continuation,
    _ core: LoopBound<LinkCore>, on loop: isolated EventLoop
  ) async {
    do throws(GrenacheError) {
      try await core.get(on: loop).lookUp(service, by: deadline, on: loop) { worker in
        found.yield(.success(worker))
      }
    } catch {
      found.yield(.failure(error))
    }
    found.finish()
  }
}

/// One reader at a time.
@available(*, unavailable)
extension FoundWorkers.AsyncIterator: Sendable {}

extension Link {
  /// The workers that announce `service`, as grapes find them.
  ///
  /// What is known of an earlier lookup is given at once. Grapes that do not tell workers one by one
  /// give all of them at the end. A grape that fails is replaced by the next one, in the middle as well.
  ///
  /// - Parameters:
  ///   - service: the service to look for.
  ///   - timeout: how long all of it may take. A connection to a grape is made for it; for one call after
  ///     the other `lookup` is cheaper.
  public func workers(
    of service: String, within timeout: Duration = .seconds(5)
  ) -> FoundWorkers {
    FoundWorkers(of: service, within: timeout, core: core)
  }
}
