import Grenache
import GrenacheIO
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import CallBenchmark

@Suite("P3 The ruler of calls beside something else", .timeLimit(.minutes(1)))
struct PacedCallsTests {
  @Test(
    "a stall of everybody for a second shows in p99, though calls are quick before and after it")
  func stall() async throws {
    let authority = try TestAuthority()
    let gate = Mutex(ContinuousClock.now)
    let service = RPCService(raw: "bench") { request in
      try await Task.sleep(until: gate.withLock { $0 }, clock: .continuous)
      return request.payload
    }
    let worker = try await LocalWorker([service], authority.authority)
    let tls = try authority.client()
    var clients: [PeerRPCClient] = []
    for _ in 0..<4 {
      let link = try await Link(
        LinkConfiguration(grapes: [worker.endpoint], tls: tls), logger: quietLogger)
      clients.append(await PeerRPCClient(link: link))
    }
    func p99(_ body: () async throws -> Void) async throws -> Double {
      let times = try await PacedCalls.run(clients, worker.endpoint, during: body)
      #expect(times.count > 100)
      return PacedCalls.percentile(times, 99)
    }
    _ = try await p99 { try await Task.sleep(for: .seconds(1)) }
    let calm = try await p99 { try await Task.sleep(for: .seconds(2)) }
    let stalled = try await p99 {
      try await Task.sleep(for: .milliseconds(500))
      gate.withLock { $0 = .now + .seconds(1) }
      try await Task.sleep(for: .milliseconds(2_500))
    }
    #expect(stalled >= 2 * calm, "\(stalled) µs, calm \(calm) µs")
    #expect(stalled > 500_000, "\(stalled) µs")
    for client in clients { await client.close() }
    await worker.stop()
  }

  @Test(
    "calls that were not made since the one before took long are due all the same, up to the end")
  func schedule() async throws {
    let start = ContinuousClock.now - .milliseconds(100)
    let end = CallSchedule.End()
    var late = CallSchedule(every: .milliseconds(10), from: start, until: end)
    for number in 1...5 { #expect(await late.next() == start + .milliseconds(10) * number) }
    end.isNow()
    for number in 6...10 { #expect(await late.next() == start + .milliseconds(10) * number) }
    // What was due meanwhile, and no more.
    for _ in 0..<100_000 { if await late.next() == nil { break } }
    #expect(await late.next() == nil)
    var ahead = CallSchedule(every: .milliseconds(50))
    let now = ContinuousClock.now
    let next = try #require(await ahead.next())
    #expect(next >= now + .milliseconds(49) && next <= .now)
  }

  @Test("a stall that lasts until the end shows, too")
  func stallAtEnd() async throws {
    let authority = try TestAuthority()
    let stalls = Flag()
    let service = RPCService(raw: "bench") { request in
      if stalls.isSet { try await Task.sleep(for: .milliseconds(1_500)) }
      return request.payload
    }
    let worker = try await LocalWorker([service], authority.authority)
    let link = try await Link(
      LinkConfiguration(grapes: [worker.endpoint], tls: try authority.client()),
      logger: quietLogger)
    let client = await PeerRPCClient(link: link)
    let times = try await PacedCalls.run([client], worker.endpoint) {
      try await Task.sleep(for: .seconds(1))
      stalls.set()
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(try #require(times.last) > 1_400_000)
    await client.close()
    await worker.stop()
  }
}
