import Grenache
import GrenacheTransport
import TestSupport
import Testing

@Suite("A client that has been closed", .timeLimit(.minutes(1)))
struct ClosedClientTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test(
    "what is under way fails and is not sent again; what comes later connects anew",
    arguments: [RPCTransport.wss, .https])
  func reuse(_ transport: RPCTransport) async throws {
    let begun = Tally()
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      if request.payload == Array("1".utf8) { await untilCancelled() }
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { configuration in
        configuration.transport = transport
        configuration.httpConnectionsPerWorkerMax = 1
      }
      for round in 1...2 {
        // A kept connection, whose loss would otherwise be made good by another attempt.
        #expect(
          try await client.requestRaw("rpc_test", Array("2".utf8), to: worker).result
            == Array("2".utf8))
        let underWay = Task {
          await #expect(throws: GrenacheError.self) {
            try await client.requestRaw(
              "rpc_test", Array("1".utf8), to: worker, within: .seconds(30), options: .idempotent)
          }
        }
        await begun.reaches(2 * round)
        await client.close()
        #expect(await underWay.value?.code == .connectionLost)
        #expect(await begun.value == 2 * round)
      }
      await client.close()
    }
  }
}
