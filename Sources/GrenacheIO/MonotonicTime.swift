/// A point on the kernel's monotonic clock, which no change of the wall clock moves.
package struct MonotonicTime: Hashable, Comparable, Sendable {
  package var nanoseconds: UInt64

  package init(nanoseconds: UInt64) {
    self.nanoseconds = nanoseconds
  }

  package static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
    left.nanoseconds < right.nanoseconds
  }

  /// The time `duration` later; a negative duration counts as none, and the sum saturates.
  package static func + (time: MonotonicTime, duration: Duration) -> MonotonicTime {
    let (sum, overflow) = time.nanoseconds.addingReportingOverflow(duration.wholeNanoseconds)
    return MonotonicTime(nanoseconds: overflow ? .max : sum)
  }

  /// The time from `earlier` until `later`; zero when `later` comes first.
  package static func - (later: MonotonicTime, earlier: MonotonicTime) -> Duration {
    guard later > earlier else { return .zero }
    return .nanoseconds(Int64(clamping: later.nanoseconds - earlier.nanoseconds))
  }

  /// Now, read from the clock.
  package static func now() -> MonotonicTime {
    MonotonicTime(nanoseconds: monotonicNanoseconds())
  }
}

extension Duration {
  /// Whole nanoseconds: none for a negative duration, the largest number for one that exceeds it.
  package var wholeNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (scaled, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    let (sum, carry) = scaled.addingReportingOverflow(UInt64(attoseconds) / 1_000_000_000)
    return overflow || carry ? .max : sum
  }

  /// This duration in milliseconds, for messages and figures.
  package var milliseconds: Double {
    Double(components.seconds) * 1e3 + Double(components.attoseconds) / 1e15
  }
}

/// The wall clock, which may jump: for dates that others read, never for measuring time.
package enum WallClock {
  /// Seconds since 1970 and the nanoseconds of the second that has begun.
  package static func now() -> (seconds: Int64, nanoseconds: Int64) {
    realTime()
  }
}
