import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("P33 Cancellation reaches the handler", .timeLimit(.minutes(1)))
struct RPCCancellationTests {
  let authority: TestAuthority
  let one = Array("1".utf8)

  init() throws { authority = try TestAuthority() }

  @Test(
    "P33 cancelling a call, or its deadline, cancels the handler's task",
    arguments: [RPCTransport.wss, .https], [true, false])
  func cancellation(_ transport: RPCTransport, _ byCaller: Bool) async throws {
    let (begun, cancelled) = (Tally(), Tally())
    let service = waitingService(begun: begun, cancelled: cancelled)
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      let call = Task {
        await grenacheError {
          _ = try await client.requestRaw(
            "rpc_test", one, to: worker, within: byCaller ? .seconds(30) : .seconds(3))
        }
      }
      await begun.reaches(1)
      let start = ContinuousClock.now
      if byCaller { call.cancel() }
      await cancelled.reaches(1)
      #expect(ContinuousClock.now - start < .seconds(8))
      #expect(await call.value?.code == (byCaller ? .cancelled : .deadlineExceeded))
    }
  }

  @Test("P33 a caller that vanishes cancels its handlers, and a cancelled call leaves others alone")
  func vanished() async throws {
    let (begun, cancelled) = (Tally(), Tally())
    let service = waitingService(begun: begun, cancelled: cancelled)
    let fast = RPCService(raw: "fast") { $0.payload }
    try await withServer([service, fast], tls: try authority.worker("*")) { worker in
      let client = try await directClient(try authority.client())
      let calls = (0..<10).map { _ in
        Task {
          await grenacheError { _ = try await client.requestRaw("rpc_test", one, to: worker) }
        }
      }
      await begun.reaches(10)
      for call in calls.prefix(4) { call.cancel() }
      await cancelled.reaches(4)
      #expect(try await client.requestRaw("fast", one, to: worker).result == one)
      #expect(await cancelled.value == 4)
      await client.close()
      await cancelled.reaches(10)
      for call in calls { _ = await call.value }
    }
  }

  @Test("P33 nothing leaks: thousands of cancelled calls leave neither calls nor workers behind")
  func leaks() async throws {
    let service = RPCService(raw: "rpc_test") { request in
      try await Task.sleep(for: .seconds(60))
      return request.payload
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      for _ in 0..<20 {
        await withTaskGroup { group in
          for _ in 0..<100 {
            group.addTask {
              _ = try? await client.requestRaw(
                "rpc_test", one, to: worker, within: .milliseconds(20))
            }
          }
        }
      }
      for _ in 0..<1_000 where service.load.count > 0 { await Task.yield() }
      let deadline = ContinuousClock.now + .seconds(10)
      while service.load.count > 0, ContinuousClock.now < deadline { await Task.yield() }
      #expect(service.load.count == 0)
    }
  }
}
