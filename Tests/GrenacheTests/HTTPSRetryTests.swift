import Grenache
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@Suite("Calls over HTTPS that may have been carried out", .timeLimit(.minutes(1)))
struct HTTPSRetryTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// Two workers that never answer, and who of them has been called.
  private func withFleet(
    configureServer: (inout PeerRPCServerConfiguration) -> Void = { _ in },
    _ body: (WorkerFleet, _ begun: Tally, _ called: @Sendable () -> [Int]) async throws -> Void
  ) async throws {
    let begun = Tally()
    let called = Mutex<[Int]>([])
    let services = (0..<2).map { index in
      RPCService(raw: "rpc_test") { request in
        called.withLock { $0.append(index) }
        await begun.add()
        await untilCancelled()
        return request.payload
      }
    }
    let fleet = try await WorkerFleet(
      services, authority: authority, configureServer: configureServer,
      configure: { $0.transport = .https })
    try await body(fleet, begun) { called.withLock { $0 } }
    await fleet.stop()
  }

  private func error(_ fleet: WorkerFleet) async -> GrenacheError? {
    await #expect(throws: GrenacheError.self) {
      try await fleet.client.requestRaw("rpc_test", Array("1".utf8), within: .seconds(15))
    }
  }

  @Test("a worker that dies in the middle of a call: the call is not sent to another one")
  func crash() async throws {
    try await withFleet { fleet, begun, called in
      async let failure = error(fleet)
      await begun.reaches(1)
      // Without close_notify: as TLS sees it, the stream has been cut off.
      await fleet.workers[try #require(called().first)].stop()
      let error = await failure
      #expect(error?.code == .connectionLost)
      #expect(called().count == 1)
    }
  }

  @Test("503 for a handler that takes too long: the call is not sent to another worker")
  func unavailable() async throws {
    try await withFleet(configureServer: { $0.transport.handlerTimeout = .milliseconds(300) }) {
      fleet, _, called in
      #expect(await error(fleet)?.code == .invalidReply)
      #expect(called().count == 1)
    }
  }
}
