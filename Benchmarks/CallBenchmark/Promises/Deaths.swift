import Foundation
import Grenache
import GrenacheTransport
import TestSupport

/// Workers that die or are restarted under load.
enum Deaths {
  /// P28: one of three workers is killed.
  static func killedWorker() async throws -> Bool {
    try await withFleet { fleet, client in
      let (latencies, failures, _) = try await load(client, .idempotent) {
        try await Task.sleep(for: .seconds(1))
        await fleet.member(.worker, 1)?.kill()
        try await Task.sleep(for: .seconds(2))
      }
      let p99 = latencies.percentile(99)
      Promises.show(
        "P28 one of three workers killed: \(latencies.count) idempotent calls, "
          + "\(failures.count) failed; \(latencies.summary)")
      for failure in failures.prefix(3) { Promises.show("  \(failure)") }
      return failures.isEmpty && p99 < 1_000
    }
  }

  /// P39: each worker in turn is asked to end, and started again.
  static func rollingRestart() async throws -> Bool {
    let carriedOut = CarriedOut()
    return try await withFleet(line: carriedOut.note, "--tells-calls") { fleet, client in
      var faults: [String] = []
      var longest = Duration.zero
      let (latencies, failures, answered) = try await load(client, RPCCallOptions()) {
        for index in 0..<3 {
          try await Task.sleep(for: .seconds(1))
          let ending = await fleet.member(.worker, index)?.terminate()
          longest = max(longest, ending?.took ?? .zero)
          if let fault = ending.map(\.fault) ?? "is missing" {
            faults.append("worker \(index) \(fault)")
          }
          try await fleet.replace(.worker, index, samePort: index > 0)
        }
        try await Task.sleep(for: .seconds(1))
      }
      let twice = try await carriedOut.twice(whenThereAre: answered)
      Promises.show(
        "P39 rolling restart: \(latencies.count) calls, \(twice) carried out twice, "
          + "\(failures.count) lost; the slowest ended in \(longest); \(latencies.summary)")
      for failure in failures.prefix(3) + faults { Promises.show("  \(failure)") }
      return failures.isEmpty && twice == 0 && faults.isEmpty
    }
  }

  /// P34: every worker fails every call, and calls may be sent again.
  static func retries() async throws -> Bool {
    let fleet = try Fleet()
    let carriedOut = Shared(0)
    let connecting = Array("\"connecting\"".utf8)
    let failing = RPCService(raw: Member.service) { request in
      if request.payload == connecting { return request.payload }
      carriedOut.withLock { $0 += 1 }
      try await Task.sleep(for: .seconds(30))
      return request.payload
    }
    try await fleet.add(.grape)
    var workers: [LocalWorker] = []
    for _ in 0..<3 {
      workers.append(try await LocalWorker([failing], fleet.authority, grapes: fleet.grapes))
    }
    let link = try await fleet.link()
    try await known(3, link)
    var configuration = PeerRPCClientConfiguration()
    configuration.sitOutTime = .zero
    let client = await PeerRPCClient(link: link, configuration: configuration)
    // An attempt's time is the handshake's as well.
    for worker in workers {
      _ = try await client.requestRaw(Member.service, connecting, to: worker.endpoint)
    }
    let calls = 5_000
    await withTaskGroup { group in
      for _ in 0..<100 {
        group.addTask {
          for _ in 0..<calls / 100 {
            var options = RPCCallOptions.idempotent
            options.attemptTimeout = .milliseconds(100)
            _ = try? await client.requestRaw(
              Member.service, [0x31], within: .milliseconds(500), options: options)
          }
        }
      }
    }
    await client.close()
    for worker in workers { await worker.stop() }
    await fleet.end()
    let sent = carriedOut.withLock { $0 }
    let burst = PeerRPCClientConfiguration().retryBurstMax
    Promises.show("P34 \(calls) calls that all fail were sent \(sent) times (\(burst) saved up)")
    return sent > calls && sent <= calls + calls / 10 + burst
  }

  /// Waits until so many workers are found.
  private static func known(_ count: Int, _ link: Link) async throws {
    try await eventually("\(count) workers") {
      try await link.lookup(Member.service).count >= count
    }
  }

  private static func withFleet(
    line: @escaping @Sendable (String) -> Void = { _ in }, _ arguments: String...,
    body: (Fleet, PeerRPCClient) async throws -> Bool
  ) async throws -> Bool {
    let fleet = try Fleet(line: line)
    do {
      try await fleet.add(.grape)
      for _ in 0..<3 { try await fleet.add(.worker, ["--work", "1"] + arguments) }
      let link = try await fleet.link()
      try await known(3, link)
      let client = await PeerRPCClient(link: link)
      let isKept = try await body(fleet, client)
      await client.close()
      await fleet.end()
      return isKept
    } catch {
      await fleet.end()
      throw error
    }
  }

  /// Has 24 callers make a call each 10 ms while `body` runs, with numbers as payloads.
  ///
  /// - Returns: how long calls took since they were due, what failed, and how many were answered.
  private static func load(
    _ client: PeerRPCClient, _ options: RPCCallOptions, during body: () async throws -> Void
  ) async throws -> (Latencies, [String], answered: Int) {
    let end = CallSchedule.End()
    let numbers = Shared(0)
    let tasks = (0..<24).map { _ in
      Task {
        var latencies = Latencies()
        var failures: [String] = []
        var schedule = CallSchedule(every: .milliseconds(10), until: end)
        while let start = await schedule.next() {
          let number = numbers.withLock { number in
            number += 1
            return number
          }
          do throws(GrenacheError) {
            let payload = Array("\(number)".utf8)
            let reply = try await client.requestRaw(Member.service, payload, options: options)
            if reply.result != payload { failures.append("a wrong reply") }
          } catch {
            failures.append("\(error.code): \(error)")
          }
          latencies.add(ContinuousClock.now - start)
        }
        return (latencies, failures)
      }
    }
    try await body()
    end.isNow()
    var (latencies, failures) = (Latencies(), [String]())
    for task in tasks {
      let (times, errors) = await task.value
      latencies.add(times)
      failures += errors
    }
    return (latencies, failures, latencies.count - failures.count)
  }
}

/// Which calls workers have carried out, as they themselves have said.
private final class CarriedOut: Sendable {
  private let counts = Shared<[String: Int]>([:])

  func note(_ line: String) {
    guard line.hasPrefix("call ") else { return }
    counts.withLock { $0[line, default: 0] += 1 }
  }

  /// How many calls were carried out more than once, once as many have been told as were answered.
  func twice(whenThereAre answered: Int) async throws -> Int {
    let deadline = ContinuousClock.now + .seconds(10)
    while counts.withLock({ $0.count }) < answered {
      guard ContinuousClock.now < deadline else {
        Promises.show("  of \(answered) calls \(counts.withLock { $0.count }) were told")
        return -1
      }
      try await Task.sleep(for: .milliseconds(50))
    }
    return counts.withLock { $0.values.count { $0 > 1 } }
  }
}
