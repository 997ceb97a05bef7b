package import GrenacheIO
internal import Synchronization

/// Lets each line into the log once in a while, and only so many different ones: what strangers cause at
/// will must not flood it.
package final class LogThrottle: Sendable {
  /// How long the same line is not logged again.
  package static let interval = Duration.seconds(60)
  /// Lines that are remembered; while there are so many, no other is logged.
  package static let linesMax = 1_000

  private struct State {
    var logged: [String: MonotonicTime] = [:]
    /// Before then none of them is forgotten.
    var nextSweep = MonotonicTime(nanoseconds: 0)
  }
  private let state = Mutex(State())

  /// A throttle that remembers nothing yet.
  package init() {}

  /// Whether that line, by whatever tells it from others, is to be logged, which it counts as then.
  package func isNew(_ line: String, now: MonotonicTime = .now()) -> Bool {
    state.withLock { state in
      if let time = state.logged[line], now - time < Self.interval { return false }
      if state.logged.count >= Self.linesMax {
        // Whoever has filled it asks again and again: all are looked at only when one is due.
        guard now >= state.nextSweep else { return false }
        state.logged = state.logged.filter { now - $0.value < Self.interval }
        state.nextSweep = (state.logged.values.min() ?? now) + Self.interval
        guard state.logged.count < Self.linesMax else { return false }
      }
      state.logged[line] = now
      return true
    }
  }
}
