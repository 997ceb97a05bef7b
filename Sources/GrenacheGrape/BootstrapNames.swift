internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTransport
internal import Logging

/// Finds out where the bootstrap nodes are that are known by name: when the grape begins, which does not
/// wait for it, again while a name has not been found or nobody is known, and once in a while, for nodes
/// move.
struct BootstrapNames: Sendable {
  typealias Resolve = @Sendable (Endpoint) async throws -> [SocketAddress]
  private typealias Found = (name: Endpoint, result: Result<[DHTAddress], any Error>)

  /// How long one look at a name may take.
  static let lookupTimeout = Duration.seconds(2)
  /// The pauses while something is missing, and when all is well.
  static let pauseMin = Duration.milliseconds(500)
  static let pauseMax = Duration.seconds(60)
  static let refreshPause = Duration.seconds(300)

  static let system: Resolve = { endpoint in
    try await Resolver.resolve(endpoint.host, port: endpoint.port, within: lookupTimeout)
  }

  /// The nodes that need no name, known at once.
  let addresses: [DHTAddress]
  private let names: [Endpoint]
  private let resolve: Resolve
  private let logger: Logger

  init(_ bootstrap: [Endpoint], resolve: @escaping Resolve, logger: Logger) {
    addresses = bootstrap.compactMap { endpoint in
      SocketAddress(ip: endpoint.host, port: endpoint.port).map { DHTAddress($0) }
    }
    names = bootstrap.filter { SocketAddress(ip: $0.host, port: $0.port) == nil }
    self.resolve = resolve
    self.logger = logger
  }

  /// Tells `driver` where they are, until the task is cancelled.
  func run(_ driver: LoopBound<DHTDriver>) async {
    guard !names.isEmpty else { return }
    var known: [Endpoint: [DHTAddress]] = [:]
    var missing: Set<Endpoint> = []
    var attempts = 0
    while !Task.isCancelled {
      let found = await resolveAll()
      for (name, result) in found {
        if case .success(let addresses) = result { known[name] = addresses }
      }
      missing = log(found, missing)
      let all = addresses + names.flatMap { known[$0] ?? [] }
      let contacts = await driver.loop.run { loop in
        driver.get(on: loop).setBootstrap(all, on: loop)
        return driver.get(on: loop).counts.contacts
      }
      let isComplete = missing.isEmpty && contacts > 0
      attempts = isComplete ? 0 : attempts + 1
      try? await Task.sleep(for: Self.pause(after: attempts))
    }
  }

  /// - Parameter attempts: so many, one after the other, have left something missing.
  static func pause(after attempts: Int) -> Duration {
    attempts == 0 ? refreshPause : min(pauseMax, pauseMin * (1 << min(attempts - 1, 10)))
  }

  /// All names at the same time: one that fails does not hold the others up.
  private func resolveAll() async -> [Found] {
    await withTaskGroup(of: Found.self) { group in
      for name in names {
        group.addTask { [resolve] in
          do {
            return (name, .success(try await resolve(name).map { DHTAddress($0) }))
          } catch {
            return (name, .failure(error))
          }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
  }

  /// Says which names cannot be found, each once until it is; returns them.
  private func log(
    _ found: [Found], _ before: Set<Endpoint>
  ) -> Set<Endpoint> {
    var missing: Set<Endpoint> = []
    for (name, result) in found {
      guard case .failure(let error) = result, !Task.isCancelled else { continue }
      missing.insert(name)
      guard !before.contains(name) else { continue }
      logger.warning(
        "a bootstrap node cannot be found; it is looked for again",
        metadata: ["node": "\(name)", "reason": "\(error)"])
    }
    return missing
  }
}
