import Foundation
import Grenache
import GrenacheIO
import GrenacheTransport

/// Calls over established connections at a steady pace, and what they notice of what happens beside
/// them.
enum PacedCalls {
  static func show(_ name: String, _ times: [Double]) {
    print(
      String(
        format: "%@ %8d %8.0f %8.0f",
        name.padding(toLength: 22, withPad: " ", startingAt: 0), times.count,
        percentile(times, 50), percentile(times, 99)))
  }

  static func percentile(_ sorted: [Double], _ percent: Int) -> Double {
    sorted.isEmpty ? 0 : sorted[min(sorted.count * percent / 100, sorted.count - 1)]
  }

  /// A call over each connection every 5 ms while `body` runs; the microseconds that each took since it was due
  /// (`CallSchedule`).
  static func run(
    _ clients: [PeerRPCClient], _ worker: Endpoint, during body: () async throws -> Void
  ) async throws -> [Double] {
    let end = CallSchedule.End()
    return try await withThrowingTaskGroup(of: [Double].self) { group in
      for client in clients {
        group.addTask {
          var times: [Double] = []
          var schedule = CallSchedule(every: .milliseconds(5), until: end)
          while let start = await schedule.next() {
            _ = try await client.requestRaw("bench", Array("[1]".utf8), to: worker)
            times.append(Double((ContinuousClock.now - start).wholeNanoseconds) / 1e3)
          }
          return times
        }
      }
      try await body()
      end.isNow()
      var times: [Double] = []
      for try await some in group { times += some }
      return times.sorted()
    }
  }
}
