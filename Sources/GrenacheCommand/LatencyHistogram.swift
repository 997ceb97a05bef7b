import Foundation

/// How long calls took, in steps of a fifth of an octave from a microsecond on: any number of calls in
/// the same memory, each at most 15 % off.
struct LatencyHistogram: Sendable {
  static let stepsPerOctave = 5.0
  static let stepsMax = 160

  private var counts = [Int](repeating: 0, count: stepsMax)
  private(set) var count = 0
  private(set) var maximum = 0.0

  mutating func add(microseconds: Double) {
    let step = microseconds <= 1 ? 0 : Int(log2(microseconds) * Self.stepsPerOctave)
    counts[min(step, Self.stepsMax - 1)] += 1
    count += 1
    maximum = max(maximum, microseconds)
  }

  mutating func add(_ other: LatencyHistogram) {
    for step in counts.indices { counts[step] += other.counts[step] }
    count += other.count
    maximum = max(maximum, other.maximum)
  }

  /// The microseconds within which that share of the calls was answered.
  func quantile(_ share: Double) -> Double {
    let wanted = Int((Double(count) * share).rounded(.up))
    var seen = 0
    for step in counts.indices {
      seen += counts[step]
      if seen >= wanted { return min(Self.upperEdge(step), maximum) }
    }
    return maximum
  }

  /// The steps between the quickest and the slowest call, each with its upper edge in microseconds.
  var steps: [(upperEdge: Double, count: Int)] {
    guard let first = counts.firstIndex(where: { $0 > 0 }),
      let last = counts.lastIndex(where: { $0 > 0 })
    else { return [] }
    return (first...last).map { (Self.upperEdge($0), counts[$0]) }
  }

  /// One line for each step between the quickest and the slowest call.
  func lines(width: Int) -> [String] {
    let most = Double(max(1, counts.max() ?? 1))
    return steps.map { step in
      let bar = String(
        repeating: "#", count: Int((Double(step.count) / most * Double(width)).rounded(.up)))
      return String(format: "%10.0f us %9d ", step.upperEdge, step.count) + bar
    }
  }

  private static func upperEdge(_ step: Int) -> Double {
    pow(2, Double(step + 1) / stepsPerOctave)
  }
}
