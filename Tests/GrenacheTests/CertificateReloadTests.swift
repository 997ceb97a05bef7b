import Grenache
import GrenacheGrape
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@Suite(
  "P21 Who runs a process is told of certificates that were loaded again", .timeLimit(.minutes(1)))
struct CertificateReloadTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// What is loaded again by the clock, every few milliseconds.
  private func short(_ tls: TLSConfiguration) -> TLSConfiguration {
    var tls = tls
    tls.reloadPeriod = .milliseconds(20)
    return tls
  }

  /// Waits for two loadings to be told.
  private func expectLoaded(
    _ run: (_ told: @escaping @Sendable (TLSReloadOutcome) -> Void) async throws -> Void
  ) async throws {
    let loaded = Tally()
    try await run { outcome in
      guard case .loaded = outcome else { return }
      Task { await loaded.add() }
    }
    #expect(await loaded.reaches(2))
  }

  @Test("tlsReloaded of a server")
  func server() async throws {
    let tls = short(try authority.worker("rpc_test"))
    var workers: [RunningWorker] = []
    try await expectLoaded { told in
      workers.append(try await RunningWorker([echo], tls: tls) { $0.tlsReloaded = told })
    }
    await workers[0].stop()
  }

  @Test("tlsReloaded of a link: run by itself, or by a client that runs", arguments: [true, false])
  func link(ofClient: Bool) async throws {
    let nowhere = Endpoint(host: "127.0.0.1", port: 1)
    var configuration = LinkConfiguration(grapes: [nowhere], tls: short(try authority.client()))
    var running: Task<Void, any Error>?
    try await expectLoaded { told in
      configuration.tlsReloaded = told
      let link = try await Link(configuration, logger: quietLogger)
      let client = await PeerRPCClient(link: link)
      running = Task { if ofClient { try await client.run() } else { try await link.run() } }
    }
    running?.cancel()
    _ = try? await running?.value
  }

  @Test("tlsReloaded of a grape")
  func grape() async throws {
    var configuration = GrapeConfiguration(apiPort: 0, dhtPort: 0, tls: short(try authority.host()))
    configuration.host = "127.0.0.1"
    configuration.dhtHost = "127.0.0.1"
    var running: [RunningTask<GrapeNode.Addresses>] = []
    try await expectLoaded { told in
      configuration.tlsReloaded = told
      let grape = GrapeNode(configuration, logger: quietLogger)
      running.append(try await RunningTask { started in try await grape.run { started($0) } })
    }
    await running[0].stop()
  }
}
