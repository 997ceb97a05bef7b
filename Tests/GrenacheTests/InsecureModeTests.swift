import Grenache
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import Logging
import Synchronization
import TestSupport
import Testing

@Suite(
  "P18 Plaintext: a long name, loopback, a warning; beyond it a second long name",
  .timeLimit(.minutes(1)))
struct InsecureModeTests {
  /// Who listens.
  enum Role: String, CaseIterable, Sendable {
    case server, serverBesideTLS, publisher, grape
  }

  /// Runs it until it listens.
  ///
  /// - Parameter host: `nil` for that of the configuration's own.
  private func listen(
    _ role: Role, host: String?, isConfirmed: Bool, _ logger: Logger
  ) async throws -> SocketAddress {
    let (addresses, listening) = AsyncThrowingStream.makeStream(of: SocketAddress.self)
    let run = try await runner(role, host: host, isConfirmed: isConfirmed, logger)
    let task = Task {
      do {
        try await run { listening.yield($0) }
        listening.finish()
      } catch {
        listening.finish(throwing: error)
      }
    }
    defer { task.cancel() }
    var iterator = addresses.makeAsyncIterator()
    return try #require(await iterator.next())
  }

  private func runner(
    _ role: Role, host: String?, isConfirmed: Bool, _ logger: Logger
  ) async throws -> @Sendable (@escaping @Sendable (SocketAddress) -> Void) async throws -> Void {
    switch role {
    case .server, .serverBesideTLS:
      var configuration = PeerRPCServerConfiguration.insecurePlaintext(port: 0)
      if role == .serverBesideTLS {
        configuration = PeerRPCServerConfiguration(port: 0, tls: try TestAuthority().host())
        configuration.acceptsInsecurePlaintextBesideTLS = true
      }
      if let host { configuration.host = host }
      configuration.allowsInsecurePlaintextOnTheNetwork = isConfirmed
      configuration.drainTimeout = .zero
      let server = PeerRPCServer(configuration, services: [echo], logger: logger)
      return { started in try await server.run { started($0) } }
    case .publisher:
      var configuration = PeerPubConfiguration.insecurePlaintext(port: 0)
      if let host { configuration.host = host }
      configuration.allowsInsecurePlaintextOnTheNetwork = isConfirmed
      configuration.drainTimeout = .zero
      let publisher = try await PeerPub("news", configuration, logger: logger)
      return { started in try await publisher.run { started($0) } }
    case .grape:
      var configuration = GrapeConfiguration.insecurePlaintext(apiPort: 0, dhtPort: 0)
      if let host { configuration.host = host }
      configuration.allowsInsecurePlaintextOnTheNetwork = isConfirmed
      let grape = GrapeNode(configuration, logger: logger)
      return { started in try await grape.run { started($0.api) } }
    }
  }

  @Test(
    "on loopback unless told otherwise, and with a warning at each start", arguments: Role.allCases)
  func loopback(_ role: Role) async throws {
    for host in ["127.0.0.1", "::1"] + (role == .serverBesideTLS ? [] : [nil]) {
      let log = LogRecorder()
      let address = try await listen(role, host: host, isConfirmed: false, log.logger)
      #expect(address.isLoopback)
      #expect(log.warnings.contains { $0.hasPrefix("plaintext") }, "\(log.warnings)")
    }
  }

  @Test(
    "another address is refused before anything listens, unless that is confirmed",
    arguments: Role.allCases)
  func network(_ role: Role) async throws {
    for host in ["::", "0.0.0.0"] {
      let log = LogRecorder()
      do {
        _ = try await listen(role, host: host, isConfirmed: false, log.logger)
        Issue.record("\(role) listens at \(host)")
      } catch {
        #expect("\(error)".contains("allowsInsecurePlaintextOnTheNetwork"), "\(error)")
      }
      #expect(log.lines("listening").isEmpty)
      let address = try await listen(role, host: host, isConfirmed: true, log.logger)
      #expect(!address.isLoopback)
      #expect(log.warnings.contains { $0.hasPrefix("plaintext") }, "\(log.warnings)")
    }
  }

  @Test("with TLS alone any address is listened on, and the confirmation is not needed")
  func secure() async throws {
    var configuration = PeerRPCServerConfiguration(port: 0, tls: try TestAuthority().host())
    configuration.host = "::"
    configuration.drainTimeout = .zero
    let log = LogRecorder()
    let server = PeerRPCServer(configuration, services: [echo], logger: log.logger)
    let (started, starting) = AsyncStream.makeStream(of: SocketAddress.self)
    let task = Task { try await server.run { starting.yield($0) } }
    for await address in started {
      #expect(!address.isLoopback)
      break
    }
    task.cancel()
    _ = try? await task.value
    #expect(!log.warnings.contains { $0.hasPrefix("plaintext") })
  }

  @Test(
    "a grape in the clear spreads nothing: its DHT and its further listeners are on loopback, too")
  func grape() async throws {
    for change: @Sendable (inout GrapeConfiguration) -> Void in [
      { $0.dhtHost = "0.0.0.0" }, { $0.dhtHostIPv6 = "::" },
      { $0.additionalListeners = [("0.0.0.0", 0)] },
    ] {
      var configuration = GrapeConfiguration.insecurePlaintext(apiPort: 0, dhtPort: 0)
      #expect(configuration.dhtHost == "127.0.0.1")
      change(&configuration)
      let error = await #expect(throws: GrapeError.self) {
        try await GrapeNode(configuration, logger: quietLogger).run()
      }
      #expect("\(error as Any)".contains("allowsInsecurePlaintextOnTheNetwork"))
    }
  }

  @Test("a link that has lost its certificates is refused: in the clear only by the long name")
  func linkWithout() async throws {
    var configuration = LinkConfiguration(
      grapes: [Endpoint(host: "127.0.0.1", port: 1)], tls: try TestAuthority().client())
    configuration.tls = nil
    let error = await #expect(throws: GrenacheError.self) {
      try await Link(configuration, logger: quietLogger)
    }
    #expect(error?.code == .invalidConfiguration)
  }

  @Test("a link in the clear says so at each start")
  func link() async throws {
    let log = LogRecorder()
    _ = try await Link(
      .insecurePlaintext(grapes: [Endpoint(host: "127.0.0.1", port: 1)]), logger: log.logger)
    #expect(log.warnings == ["plaintext: neither grapes nor workers prove who they are"])
  }

  @Test(
    "over TLS a policy is wanted: without one nobody is listened for", arguments: [true, false])
  func noPolicy(isPublisher: Bool) async throws {
    let tls = try TestAuthority().host(services: ["news"])
    let error = await #expect(throws: GrenacheError.self) {
      if isPublisher {
        var configuration = PeerPubConfiguration(port: 0, tls: tls)
        configuration.access = nil
        try await PeerPub("news", configuration, logger: quietLogger).run()
      } else {
        var configuration = PeerRPCServerConfiguration(port: 0, tls: tls)
        configuration.access = nil
        try await PeerRPCServer(configuration, services: [echo], logger: quietLogger).run()
      }
    }
    #expect(error?.code == .invalidConfiguration)
  }

  @Test(
    "callers without a certificate may call nothing, unless a long name says so: then it is a warning",
    arguments: [true, false], [RPCTransport.wss, .https])
  func anonymousCallers(isAdmitted: Bool, _ transport: RPCTransport) async throws {
    let authority = try TestAuthority()
    var tls = try authority.worker("rpc_test")
    tls.clientCertificates = .none
    let identities = Mutex<[PeerIdentity?]>([])
    let service = RPCService(raw: "rpc_test") { request in
      identities.withLock { $0.append(request.identity) }
      return request.payload
    }
    let log = LogRecorder()
    try await withServer(
      [service], tls: tls, logger: log.logger,
      configure: { $0.acceptsInsecureAnonymousCallers = isAdmitted }
    ) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      let error = await grenacheError {
        _ = try await client.requestRaw("rpc_test", [0x31], to: worker)
      }
      #expect(error?.code == (isAdmitted ? nil : .notPermitted))
      await client.close()
    }
    #expect(identities.withLock { $0 } == (isAdmitted ? [nil] : []))
    let warnings = log.lines(
      "callers without a certificate are answered, and do not prove who they are")
    #expect(warnings.count == (isAdmitted ? 1 : 0))
  }
}
