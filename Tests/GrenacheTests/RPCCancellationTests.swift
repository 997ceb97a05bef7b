import GrenacheIO
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("P33 Cancellation reaches the handler", .timeLimit(.minutes(1)))
struct RPCCancellationTests {
  let authority: TestAuthority
  let one = Array("1".utf8)

  init() throws { authority = try TestAuthority() }

  @Test(
    "P33 cancelling a call cancels the handler's task, within a round trip and 10 ms",
    arguments: [RPCTransport.wss, .https])
  func cancellation(_ transport: RPCTransport) async throws {
    let (begun, cancelled) = (Tally(), Tally())
    let cancelledAt = Mutex(ContinuousClock.now)
    let service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      await untilCancelled()
      cancelledAt.withLock { $0 = .now }
      await cancelled.add()
      return request.payload
    }
    let fast = RPCService(raw: "fast") { $0.payload }
    try await withServer([service, fast], tls: try authority.worker("*")) { worker in
      // A loop of its own: what other tests do must not count.
      let client = try await directClient(
        try authority.client(), group: try EventLoopGroup(count: 1)
      ) { $0.transport = transport }
      var roundTrips: [Duration] = []
      var reached: [Duration] = []
      for number in 1...15 {
        // Over HTTPS a cancelled call costs its connection: the first of these makes another.
        for _ in 0..<3 {
          let start = ContinuousClock.now
          _ = try await client.requestRaw("fast", one, to: worker)
          roundTrips.append(ContinuousClock.now - start)
        }
        let call = Task {
          await grenacheError { _ = try await client.requestRaw("rpc_test", one, to: worker) }
        }
        await begun.reaches(number)
        let start = ContinuousClock.now
        call.cancel()
        await cancelled.reaches(number)
        reached.append(cancelledAt.withLock { $0 } - start)
        #expect(await call.value?.code == .cancelled)
      }
      // The best of many: what else the machine does must not count either; but most are quick, too.
      let limit = try #require(roundTrips.min()) + .milliseconds(10)
      #expect(try #require(reached.min()) < limit)
      #expect(reached.sorted()[7] < .milliseconds(200))
      await client.close()
    }
  }

  @Test(
    "P33 a call's deadline cancels the handler's task", arguments: [RPCTransport.wss, .https])
  func deadline(_ transport: RPCTransport) async throws {
    let (begun, cancelled) = (Tally(), Tally())
    let service = waitingService(begun: begun, cancelled: cancelled)
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      let error = await grenacheError {
        _ = try await client.requestRaw("rpc_test", one, to: worker, within: .seconds(3))
      }
      #expect(error?.code == .deadlineExceeded)
      #expect(await cancelled.reaches(1))
      #expect(await begun.value == 1)
      await client.close()
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
    let (begun, cancelled) = (Tally(), Tally())
    let service = waitingService(begun: begun, cancelled: cancelled)
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      for round in 1...20 {
        let calls = (0..<100).map { _ in
          Task {
            await grenacheError {
              _ = try await client.requestRaw("rpc_test", one, to: worker, within: .seconds(50))
            }
          }
        }
        await begun.reaches(round * 100)
        for call in calls { call.cancel() }
        for call in calls { #expect(await call.value?.code == .cancelled) }
      }
      #expect(await cancelled.reaches(2_000))
      #expect(await begun.value == 2_000)
      try await eventually { service.load.count == 0 }
      await client.close()
    }
  }
}
