internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// The state of a client, confined to its link's loop: the workers it knows and how they behave.
final class RPCClientCore {
  /// The longest time that a failing worker is passed over.
  static let sitOutMax = Duration.seconds(30)
  /// How many workers one call tries to reach.
  static let attemptsMax = 8

  private let link: Link
  private let configuration: PeerRPCClientConfiguration
  private var workers: [WorkerKey: RPCWorker] = [:]
  private var callsInFlight = 0
  private var generator = SystemRandomNumberGenerator()

  init(link: Link, configuration: PeerRPCClientConfiguration) {
    self.link = link
    self.configuration = configuration
  }

  /// A worker by its address and by who it must be: a connection that was verified for one service
  /// carries no calls of another.
  private struct WorkerKey: Hashable {
    var endpoint: Endpoint
    var service: String
  }

  func request(
    _ service: String, _ payload: [UInt8], to worker: Endpoint?, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    guard callsInFlight < configuration.callsInFlightMax else {
      throw GrenacheError(.limitReached, "\(callsInFlight) calls are in flight already")
    }
    callsInFlight += 1
    defer { callsInFlight -= 1 }
    let candidates = try await candidates(for: service, worker: worker, by: deadline, on: loop)
    let connection = try await connect(to: candidates, service, by: deadline, on: loop)
    return try await connection.call(service, payload, by: deadline, on: loop)
  }

  func close(on loop: isolated EventLoop) {
    for worker in workers.values { worker.close(on: loop) }
    workers = [:]
  }

  private func candidates(
    for service: String, worker: Endpoint?, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [Endpoint] {
    if let worker { return [worker] }
    let found = try await link.core(on: loop).lookup(service, by: deadline, on: loop)
    guard !found.isEmpty else {
      throw GrenacheError(.serviceNotFound, "no worker announces \(service)")
    }
    return found
  }

  /// A connection to one of the candidates; the reasons of those that failed are kept for the error.
  private func connect(
    to candidates: [Endpoint], _ service: String, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCClientConnection {
    var left = candidates
    var failure: TransportError?
    for _ in 0..<min(candidates.count, Self.attemptsMax) {
      let worker = choose(from: &left, service, now: .now())
      do throws(TransportError) {
        let limit = min(deadline, .now() + configuration.connectTimeout)
        return try await worker.connection(by: limit, on: loop)
      } catch {
        if error.code == .cancelled { throw GrenacheError(.cancelled, "the call was cancelled") }
        if error.tls != nil || failure == nil { failure = error }
      }
      if deadline <= .now() {
        throw GrenacheError(
          .deadlineExceeded, "no worker of \(service) was reached in time", cause: failure)
      }
    }
    link.core(on: loop).forget(service)
    throw unreachable(service, candidates, failure)
  }

  private func unreachable(
    _ service: String, _ candidates: [Endpoint], _ failure: TransportError?
  ) -> GrenacheError {
    let names = candidates.prefix(5).map(\.description).joined(separator: ", ")
    if failure?.tls != nil {
      return GrenacheError(
        .workerNotTrusted, "no worker of \(service) at \(names) can be trusted", cause: failure)
    }
    return GrenacheError(
      .workerUnreachable, "no worker of \(service) at \(names) can be reached", cause: failure)
  }

  /// Takes one candidate out: of two drawn at random the one with fewer calls in flight, and one that
  /// sits out only when all do.
  private func choose(
    from left: inout [Endpoint], _ service: String, now: MonotonicTime
  ) -> RPCWorker {
    let ready = left.indices.filter { worker(at: left[$0], service).isReady(at: now) }
    let pool = ready.isEmpty ? Array(left.indices) : ready
    let first = pool[Int.random(in: pool.indices, using: &generator)]
    let second = pool[Int.random(in: pool.indices, using: &generator)]
    let one = worker(at: left[first], service)
    let other = worker(at: left[second], service)
    let isFirst = one.callsInFlight <= other.callsInFlight
    left.remove(at: isFirst ? first : second)
    return isFirst ? one : other
  }

  private func worker(at endpoint: Endpoint, _ service: String) -> RPCWorker {
    let key = WorkerKey(endpoint: endpoint, service: service)
    if let known = workers[key] { return known }
    let verification =
      configuration.verification ?? .service(service, address: endpoint.host)
    let made = RPCWorker(
      Destination(endpoint, verification: verification), context: link.context,
      configuration: configuration)
    if workers.count >= 10_000 { workers = workers.filter { !$0.value.isUnused } }
    workers[key] = made
    return made
  }
}
