import GrenacheDHT
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("Bootstrap nodes that are known by name", .timeLimit(.minutes(2)))
struct BootstrapTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// Names that fail so many times before they are found.
  private final class Names: Sendable {
    let failures: Int
    let address: SocketAddress
    private let asked = Mutex<[String: Int]>([:])

    init(failures: Int, _ address: SocketAddress) {
      self.failures = failures
      self.address = address
    }

    func count(of name: String) -> Int { asked.withLock { $0[name] ?? 0 } }

    func resolve(_ endpoint: Endpoint) throws -> [SocketAddress] {
      let before = asked.withLock { asked in
        defer { asked[endpoint.host, default: 0] += 1 }
        return asked[endpoint.host] ?? 0
      }
      guard before >= failures else { throw TimedOut() }
      return [address]
    }
  }

  private func grape(
    _ names: [String], _ port: UInt16, resolve: @escaping BootstrapNames.Resolve
  ) throws -> GrapeNode {
    var configuration = GrapeConfiguration(
      apiPort: 0, dhtPort: 0, bootstrap: names.map { Endpoint(host: $0, port: port) },
      tls: try authority.host())
    configuration.host = "127.0.0.1"
    configuration.dhtHost = "127.0.0.1"
    return GrapeNode(configuration, resolve: resolve, logger: quietLogger)
  }

  @Test("DNS that fails at first is no reason to stay alone: names are looked for again")
  func again() async throws {
    let client = try authority.client()
    try await withGrape(tls: try authority.host()) { first in
      let names = Names(failures: 2, first.dht)
      let grape = try grape(["grape.test"], first.dht.port) { try names.resolve($0) }
      try await withRunning(grape) { second in
        try await waitUntilReady(second, as: client)
        #expect(names.count(of: "grape.test") == 3)
      }
    }
  }

  @Test("the start does not wait for names, nor a name that is found for one that is not")
  func noWait() async throws {
    let client = try authority.client()
    try await withGrape(tls: try authority.host()) { first in
      let address = first.dht
      let (release, continuation) = AsyncStream.makeStream(of: Void.self)
      let grape = try grape(["never.test"], address.port) { _ in
        for await _ in release {}
        return [address]
      }
      // It listens, and answers, while the resolver still thinks.
      try await withRunning(grape) { second in
        let health = try await post("", "/healthz/ready", to: second.api, as: client)
        #expect(health.status == 503)
        continuation.finish()
        try await waitUntilReady(second, as: client)
      }
      let names = Names(failures: 0, address)
      let both = try self.grape(["never.test", "grape.test"], address.port) { endpoint in
        if endpoint.host == "never.test" { throw TimedOut() }
        return try names.resolve(endpoint)
      }
      try await withRunning(both) { second in try await waitUntilReady(second, as: client) }
    }
  }

  @Test(
    "growing pauses while something is missing, five minutes when all is well",
    arguments: [(1, 500), (2, 1_000), (7, 32_000), (8, 60_000), (1_000, 60_000), (0, 300_000)])
  func pauses(_ attempts: Int, _ milliseconds: Int) {
    #expect(BootstrapNames.pause(after: attempts) == .milliseconds(milliseconds))
  }

  @Test("an IP address needs no resolver")
  func addresses() throws {
    let names = BootstrapNames(
      [Endpoint(host: "127.0.0.1", port: 5), Endpoint(host: "::1", port: 6)],
      resolve: { _ in throw TimedOut() }, logger: quietLogger)
    #expect(names.addresses.map(\.description) == ["127.0.0.1:5", "[0:0:0:0:0:0:0:1]:6"])
  }
}
