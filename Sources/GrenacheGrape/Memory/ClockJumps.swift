internal import GrenacheIO

/// Notices that the wall clock was set, or that the machine has slept: from then on it says another time
/// for what the monotonic clock measures.
struct ClockJumps: Sendable {
  /// By how much it may differ from before, as when it is slowed or hastened bit by bit, in seconds.
  static let toleranceSeconds: Int64 = 5

  /// The wall clock's time when the monotonic one began.
  private var origin: Int64?

  /// Whether the wall clock has jumped since this was asked last; at first it has not.
  mutating func hasJumped() -> Bool {
    hasJumped(wall: WallClock.now().seconds, monotonic: .now())
  }

  mutating func hasJumped(wall: Int64, monotonic: MonotonicTime) -> Bool {
    let seconds = Int64(clamping: monotonic.nanoseconds / 1_000_000_000)
    let (now, overflow) = wall.subtractingReportingOverflow(seconds)
    guard !overflow else { return false }
    guard let origin else {
      origin = now
      return false
    }
    let (moved, isFar) = now.subtractingReportingOverflow(origin)
    guard isFar || moved.magnitude > Self.toleranceSeconds.magnitude else { return false }
    self.origin = now
    return true
  }
}
