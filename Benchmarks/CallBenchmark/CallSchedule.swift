import Synchronization

/// When one caller's calls are due, whatever became of those before.
///
/// A caller has one call under way. If the time of each counted from when it begins, a stall of everybody
/// would be one slow call for each caller, which no percentile sees: those that were due meanwhile would
/// never have been made. So they are made afterwards, and count from when they were due.
struct CallSchedule {
  /// When calls cease to be due, once that is known.
  final class End: Sendable {
    private let time = Mutex<ContinuousClock.Instant?>(nil)

    func isNow() { time.withLock { $0 = .now } }

    func isBefore(_ due: ContinuousClock.Instant) -> Bool {
      time.withLock { end in end.map { $0 < due } ?? false }
    }
  }

  private let interval: Duration
  private let end: End
  private var due: ContinuousClock.Instant

  /// - Parameter interval: from one call to the next.
  init(
    every interval: Duration, from start: ContinuousClock.Instant = .now, until end: End = End()
  ) {
    self.interval = interval
    self.end = end
    due = start
  }

  /// Waits until the next call is due.
  ///
  /// - Returns: from when its time counts: when it was due, if the call before it has taken so long, and
  ///   otherwise now, since a timer that is late is nobody's fault who is called; `nil` when no other was
  ///   due before the end, or the task is cancelled.
  mutating func next() async -> ContinuousClock.Instant? {
    due += interval
    let isLate = due <= .now
    if !isLate { try? await Task.sleep(until: due, tolerance: .zero, clock: .continuous) }
    guard !end.isBefore(due), !Task.isCancelled else { return nil }
    return isLate ? due : .now
  }
}
