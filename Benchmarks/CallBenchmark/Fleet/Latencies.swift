import Foundation

/// How long things took, in steps of 2 %, in memory that does not grow.
struct Latencies: Sendable {
  private var counts = [Int](repeating: 0, count: 1_200)
  private(set) var count = 0
  private(set) var longest = Duration.zero

  mutating func add(_ time: Duration) {
    let microseconds = max(1, time / .microseconds(1))
    counts[min(Int(log(microseconds) / log(1.02)), counts.count - 1)] += 1
    count += 1
    longest = max(longest, time)
  }

  mutating func add(_ other: Latencies) {
    for index in counts.indices { counts[index] += other.counts[index] }
    count += other.count
    longest = max(longest, other.longest)
  }

  /// In milliseconds; the end of the step that it lies in.
  func percentile(_ percent: Double) -> Double {
    var left = Int((Double(count) * percent / 100).rounded(.up))
    for (index, number) in counts.enumerated() {
      left -= number
      if left <= 0 { return pow(1.02, Double(index + 1)) / 1_000 }
    }
    return 0
  }

  var summary: String {
    String(
      format: "p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, longest %.0f ms", percentile(50),
      percentile(99), percentile(99.9), longest / .milliseconds(1))
  }
}
