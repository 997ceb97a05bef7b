import Foundation

/// How much of the processors' time a host has taken from this virtual machine for others: latencies of
/// such a time are the host's, too.
struct StolenTime {
  /// The processors' time since the machine started, in the ticks of proc(5).
  struct Ticks: Hashable {
    var all: UInt64
    var stolen: UInt64

    /// - Parameter text: what `/proc/stat` holds.
    init?(_ text: String) {
      guard let line = text.split(separator: "\n").first, line.hasPrefix("cpu ") else { return nil }
      // user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
      let fields = line.split(separator: " ").dropFirst().prefix(8).compactMap { UInt64($0) }
      guard fields.count == 8 else { return nil }
      all = fields.reduce(0, &+)
      stolen = fields[7]
    }

    fileprivate static var now: Ticks? {
      (try? String(contentsOfFile: "/proc/stat", encoding: .utf8)).flatMap(Ticks.init)
    }
  }

  private let start = Ticks.now

  /// Of 100; `nil` where the system does not tell.
  var percent: Double? { start.flatMap { start in Ticks.now.flatMap { Self.percent(start, $0) } } }

  static func percent(_ start: Ticks, _ end: Ticks) -> Double? {
    guard end.all > start.all, end.stolen >= start.stolen else { return nil }
    return Double(end.stolen - start.stolen) / Double(end.all - start.all) * 100
  }

  /// For people.
  var summary: String {
    let share = percent.map { String(format: "%.1f %%", $0) } ?? "an unknown part"
    return "the host took \(share) of the processors' time"
  }
}
