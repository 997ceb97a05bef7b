internal import GrenacheIO

/// How long a link waits before it looks a key up, and has it watched, again: drawn by chance, so that
/// those who lose the same grape do not all come to the next one at the same moment.
struct FollowPace {
  /// The longest pause after a watch has been lost.
  static let lostPauseMax = Duration.seconds(2)
  /// A watch that lasts as long was a good one; others count as failures.
  static let steadyTime = Duration.seconds(10)
  /// The longest pause after a first failure; it doubles with each, up to the interval of lookups.
  static let failurePauseMin = Duration.milliseconds(200)

  private var failures = 0

  /// - Parameters:
  ///   - end: how the watch ended; `nil` where there was none.
  ///   - time: how long it lasted.
  ///   - interval: the mean time between two lookups.
  mutating func pause(
    after end: FollowSchedule.WatchEnd?, lasting time: Duration, interval: Duration,
    using generator: inout some RandomNumberGenerator
  ) -> Duration {
    switch end {
    case .lost:
      failures = time >= Self.steadyTime ? 0 : min(failures + 1, 10)
      let longest = max(Self.lostPauseMax, min(backOff, interval))
      return longest * Double.random(in: 0...1, using: &generator)
    case .unreachable:
      let longest = min(backOff, interval)
      failures = min(failures + 1, 10)
      return longest * Double.random(in: 0.75...1.25, using: &generator)
    case .notOffered, nil:
      return interval * Double.random(in: 0.75...1.25, using: &generator)
    }
  }

  private var backOff: Duration { Self.failurePauseMin * (1 << failures) }
}
