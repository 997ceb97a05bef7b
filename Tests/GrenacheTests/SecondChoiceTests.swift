import GrenacheIO
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("Another grape, another worker", .timeLimit(.minutes(1)))
struct SecondChoiceTests {
  @Test("workers that do not answer are looked up at another grape than the one that named them")
  func otherGrape() async throws {
    let authority = try TestAuthority()
    let worker = try await RunningWorker([echo], tls: try authority.worker("rpc_test"))
    let old = try await FixedGrape(tls: try authority.host())
    let fresh = try await FixedGrape(tls: try authority.host())
    old.answer([Endpoint(host: "127.0.0.1", port: 1)])
    fresh.answer([worker.endpoint])
    let link = try await Link(
      LinkConfiguration(grapes: [old.endpoint, fresh.endpoint], tls: try authority.client()),
      logger: quietLogger)
    let client = await PeerRPCClient(link: link)
    let reply = try await client.requestRaw("rpc_test", [0x31])
    #expect(reply.worker == worker.endpoint)
    #expect(old.lookups == 1 && fresh.lookups == 1)
    await client.close()
    await worker.stop()
    await old.stop()
    await fresh.stop()
  }

  @Test("a hedged call that one handler answers with an error does not wait for the other")
  func hedgedError() async throws {
    let hangingBegun = Tally()
    let hanging = waitingService(begun: hangingBegun, cancelled: Tally())
    let failing = RPCService(raw: "rpc_test") { _ in
      await hangingBegun.reaches(1)
      throw RPCFault("no")
    }
    let fleet = try await WorkerFleet([hanging, failing], authority: try TestAuthority())
    var options = RPCCallOptions.idempotent
    options.hedgeDelay = .milliseconds(20)
    let error = await #expect(throws: GrenacheError.self) {
      try await fleet.client.requestRaw("rpc_test", [0x31], within: .seconds(20), options: options)
    }
    #expect(error?.code == .remoteError)
    await fleet.stop()
  }
}
