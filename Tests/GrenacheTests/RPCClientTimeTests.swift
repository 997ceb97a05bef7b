import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("What a client waits for, and whom it remembers", .timeLimit(.minutes(1)))
struct RPCClientTimeTests {
  let authority: TestAuthority
  let one: [UInt8] = [0x31]

  init() throws { authority = try TestAuthority() }

  /// Answers when `gate` opens.
  private static func service(begun: Tally, gate: Tally) -> RPCService {
    RPCService(raw: "rpc_test") { request in
      await begun.add()
      await gate.reaches(1)
      return request.payload
    }
  }

  @Test("callTimeout: how long a call may take that says nothing else")
  func callTime() async throws {
    let gate = Tally()
    try await withServer(
      [Self.service(begun: Tally(), gate: gate)], tls: try authority.worker("rpc_test")
    ) { worker in
      let client = try await directClient(try authority.client()) {
        $0.callTimeout = .milliseconds(500)
      }
      let start = ContinuousClock.now
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", one, to: worker)
      }
      let took = ContinuousClock.now - start
      #expect(error?.code == .deadlineExceeded)
      #expect(took >= .milliseconds(499) && took < .seconds(8))
      await gate.add()
      await client.close()
    }
  }

  @Test(
    "connectTimeout: a worker that does not answer costs so much of a call's time",
    arguments: [RPCTransport.wss, .https])
  func connectTime(_ transport: RPCTransport) async throws {
    try await withHostileServer(.saysNothing) { worker in
      let client = try await directClient(try authority.client()) {
        $0.transport = transport
        $0.connectTimeout = .milliseconds(500)
      }
      let start = ContinuousClock.now
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", one, to: worker, within: .seconds(30))
      }
      let took = ContinuousClock.now - start
      #expect(error?.code == .workerUnreachable)
      #expect(took >= .milliseconds(499) && took < .seconds(8))
      await client.close()
    }
  }

  @Test("workersMax: so many workers are remembered; for one more those without use are forgotten")
  func workers() async throws {
    let (begun, gate) = (Tally(), Tally())
    try await withServer(
      [Self.service(begun: begun, gate: gate)], tls: try authority.worker("rpc_test")
    ) { worker in
      let client = try await directClient(try authority.client())
      let used = Task { try await client.requestRaw("rpc_test", one, to: worker).result }
      await begun.reaches(1)
      /// Nobody is there, under a name of its own each time.
      func tryOne(_ number: Int) async {
        let nobody = Endpoint(host: "127.0.0.1", port: 1)
        _ = try? await client.requestRaw("nobody:\(number)", [0x31], to: nobody)
      }
      func count() async -> Int {
        await client.core.loop.run { [core = client.core] loop in core.get(on: loop).workerCount }
      }
      for batch in 0..<99 {
        await withTaskGroup { group in
          for number in 0..<101 { group.addTask { await tryOne(batch * 101 + number) } }
        }
      }
      #expect(await count() == RPCClientCore.workersMax)
      await tryOne(-1)
      #expect(await count() == 2)
      await gate.add()
      _ = try await used.value
      await client.close()
    }
  }

  @Test("reachedMax: one call tries so many workers that cannot be reached, not one more")
  func reached() async throws {
    let connections = Tally()
    let grape = try await FixedGrape(tls: try authority.host())
    let link = try await Link(
      LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client()),
      logger: quietLogger)
    var configuration = PeerRPCClientConfiguration()
    // Otherwise others would be connected to meanwhile.
    configuration.activeWorkersMax = 1
    configuration.transport = .https
    configuration.connectTimeout = .milliseconds(200)
    let client = await PeerRPCClient(link: link, configuration: configuration)
    try await withHostileServers(RPCCallLimits.reachedMax + 2, .counts(connections)) { workers in
      grape.answer(workers)
      let error = await #expect(throws: GrenacheError.self) {
        try await client.requestRaw("rpc_test", one, within: .seconds(30))
      }
      #expect(error?.code == .workerUnreachable)
      #expect(await connections.value == RPCCallLimits.reachedMax)
    }
    await client.close()
    await grape.stop()
  }
}
