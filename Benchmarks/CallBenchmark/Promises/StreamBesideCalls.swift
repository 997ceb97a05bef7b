import Foundation
import Grenache
import GrenacheTransport

/// P38: a stream of 100 MiB beside calls of 1 KiB, of one client to one worker.
enum StreamBesideCalls {
  /// One after the other, in each round.
  private static let streams = 10
  /// Of which the median counts.
  private static let rounds = 15

  static func measure() async throws -> Bool {
    let fleet = try Fleet()
    do {
      let worker = try await fleet.add(.worker).endpoint
      let client = await PeerRPCClient(link: try await fleet.link(to: worker))
      _ = try await calls(client, worker) { try await Task.sleep(for: .milliseconds(500)) }
      var ratios: [Double] = []
      for _ in 0..<rounds {
        let idle = try await calls(client, worker) { try await Task.sleep(for: .seconds(1)) }
        let start = ContinuousClock.now
        // One alone is over before there are calls enough for a percentile.
        let beside = try await calls(client, worker) {
          for _ in 0..<streams { try await stream(client, worker) }
        }
        let took = (ContinuousClock.now - start) / .seconds(Double(streams))
        ratios.append(beside.percentile(99) / idle.percentile(99))
        Promises.show(
          String(
            format:
              "P38 idle p99 %.2f ms; beside a stream of 100 MiB (%.2f s) p99 %.2f ms: %.1f times",
            idle.percentile(99), took, beside.percentile(99), ratios.last ?? 0))
      }
      await client.close()
      await fleet.end()
      let median = ratios.sorted()[rounds / 2]
      Promises.show(String(format: "P38 median of %d rounds: %.1f times", rounds, median))
      return median < 5
    } catch {
      await fleet.end()
      throw error
    }
  }

  private static func stream(_ client: PeerRPCClient, _ worker: Endpoint) async throws {
    let part = [UInt8](repeating: 0x78, count: 64 << 10)
    let isWhole = try await client.stream("bytes", to: worker, within: .seconds(60)) { stream in
      for _ in 0..<1_600 { try await stream.write(part) }
      await stream.finish()
      var answer: [UInt8] = []
      for try await bytes in try await stream.incoming() { answer += bytes }
      return answer == Array("done".utf8)
    }
    guard isWhole else { throw CancellationError() }
  }

  /// A call each 3 ms while `body` runs; how long each took since it was due.
  private static func calls(
    _ client: PeerRPCClient, _ worker: Endpoint, during body: () async throws -> Void
  ) async throws -> Latencies {
    let end = CallSchedule.End()
    let payload = Array(("\"" + String(repeating: "x", count: 1_022) + "\"").utf8)
    let calling = Task {
      var latencies = Latencies()
      var schedule = CallSchedule(every: .milliseconds(3), until: end)
      while let start = await schedule.next() {
        _ = try await client.requestRaw(Member.service, payload, to: worker)
        latencies.add(ContinuousClock.now - start)
      }
      return latencies
    }
    try await body()
    end.isNow()
    return try await calling.value
  }
}
