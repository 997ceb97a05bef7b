import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("Calls that go to another worker", .timeLimit(.minutes(1)))
struct RPCRetryTests {
  let authority: TestAuthority
  let one = Array("1".utf8)

  init() throws { authority = try TestAuthority() }

  private func options(
    _ configure: (inout RPCCallOptions) -> Void = { _ in }
  ) -> RPCCallOptions {
    var options = RPCCallOptions.idempotent
    configure(&options)
    return options
  }

  @Test("a call that one worker turns away goes to another")
  func elsewhere() async throws {
    var full = RPCService(raw: "rpc_test") { $0.payload }
    full.callsMax = 0
    let fleet = try await WorkerFleet([full, echo], authority: authority)
    for _ in 0..<20 {
      #expect(
        try await fleet.client.requestRaw("rpc_test", one).worker == fleet.workers[1].endpoint)
    }
    await fleet.stop()
  }

  @Test(
    "an idempotent call whose attempt takes too long goes to another worker; another one does not")
  func attempts() async throws {
    let (begun, cancelled) = (Tally(), Tally())
    let slow = waitingService(begun: begun, cancelled: cancelled)
    let fleet = try await WorkerFleet(
      [slow, echo], authority: authority, configure: { $0.sitOutTime = .zero })
    // Both are connected to before: an attempt's time is the handshake's as well.
    while await begun.value == 0 {
      let reply = try await fleet.client.requestRaw(
        "rpc_test", one, options: options { $0.hedgeDelay = .milliseconds(20) })
      #expect(reply.worker == fleet.workers[1].endpoint)
    }
    for _ in 0..<10 {
      let reply = try await fleet.client.requestRaw(
        "rpc_test", one, options: options { $0.attemptTimeout = .milliseconds(300) })
      #expect(reply.worker == fleet.workers[1].endpoint)
    }
    // Every attempt that was given up was cancelled.
    await cancelled.reaches(await begun.value)
    var failures = 0
    for _ in 0..<20 where failures == 0 {
      let error = await grenacheError {
        _ = try await fleet.client.requestRaw("rpc_test", one, within: .milliseconds(300))
      }
      if error?.code == .deadlineExceeded { failures += 1 }
    }
    #expect(failures == 1)
    await fleet.stop()
  }

  @Test("a hedged call is answered by the quicker worker, and the other call is cancelled")
  func hedging() async throws {
    let (begun, cancelled) = (Tally(), Tally())
    let slow = waitingService(begun: begun, cancelled: cancelled)
    let fleet = try await WorkerFleet([slow, echo], authority: authority)
    for _ in 0..<20 where await begun.value == 0 {
      let reply = try await fleet.client.requestRaw(
        "rpc_test", one, options: options { $0.hedgeDelay = .milliseconds(20) })
      #expect(reply.worker == fleet.workers[1].endpoint)
    }
    #expect(await begun.value > 0)
    await cancelled.reaches(1)
    await fleet.stop()
  }
}

@Suite("P34 Retries are budgeted", .timeLimit(.minutes(1)))
struct RetryBudgetTests {
  @Test("one retry for ten calls, and what was saved up")
  func ratio() {
    var budget = RetryBudget(ratio: 0.1, burstMax: 5)
    var retries = 0
    for _ in 0..<1_000 {
      budget.deposit()
      if budget.withdraw() { retries += 1 }
    }
    #expect(retries == 104)  // the first deposit finds it full
    for _ in 0..<1_000_000 { budget.deposit() }
    retries = 0
    while budget.withdraw() { retries += 1 }
    #expect(retries == 5)
  }

  @Test("workers that all fail get at most a tenth more calls, and only idempotent ones twice")
  func load() async throws {
    let authority = try TestAuthority()
    let carriedOut = Tally()
    let slow = RPCService(raw: "rpc_test") { request in
      await carriedOut.add()
      await untilCancelled()
      return request.payload
    }
    let fleet = try await WorkerFleet(
      [slow, slow], authority: authority,
      configure: { configuration in
        configuration.retryBurstMax = 5
        configuration.sitOutTime = .zero
      })
    let calls = 100
    for isIdempotent in [false, true] {
      let before = await carriedOut.value
      await withTaskGroup { group in
        for _ in 0..<calls {
          group.addTask {
            var options = RPCCallOptions()
            options.isIdempotent = isIdempotent
            options.attemptTimeout = .milliseconds(500)
            _ = try? await fleet.client.requestRaw(
              "rpc_test", [0x31], within: .seconds(5), options: options)
          }
        }
      }
      let sent = await carriedOut.value - before
      #expect(sent <= (isIdempotent ? calls + calls / 10 + 5 : calls))
      #expect(sent > (isIdempotent ? calls : 0))
    }
    await fleet.stop()
  }
}
