internal import GrenacheIO

/// The clock of one node: it began at another time than those of others, and runs a little faster or slower.
struct NodeClock {
  private let timeline: Timeline
  private let start: UInt64
  /// In thousandths of the true one.
  private let rate: UInt64

  /// - Parameter skew: by how many thousandths it may be wrong; real ones are by less than one.
  init(_ timeline: Timeline, skew: Int = 20) {
    self.timeline = timeline
    start = UInt64(timeline.random(0...1_000_000)) * 1_000_000_000
    rate = UInt64(timeline.random((1_000 - skew)...(1_000 + skew)))
  }

  var now: MonotonicTime {
    MonotonicTime(nanoseconds: start + timeline.now.nanoseconds * rate / 1_000)
  }

  func after(_ time: Duration, _ action: @escaping () -> Void) { at(now + time, action) }

  /// Does it when this clock shows `local`.
  func at(_ local: MonotonicTime, _ action: @escaping () -> Void) {
    let elapsed = local.nanoseconds > start ? local.nanoseconds - start : 0
    timeline.at(MonotonicTime(nanoseconds: (elapsed * 1_000 + rate - 1) / rate), action)
  }
}
