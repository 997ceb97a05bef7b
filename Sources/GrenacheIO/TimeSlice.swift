/// When a loop that always has something to do lets the other threads of its core run.
///
/// The kernel looks at who should run at its tick, 4 ms apart on many systems. A loop that a stream keeps
/// busy would let a caller, who needs 10 microseconds to take a reply, wait for so long each time.
struct TimeSlice {
  /// How long a loop goes on, and what it asks the kernel for as its slice.
  static let length = Duration.microseconds(200)
  /// Whoever was away for longer than this between two turns has waited, and let others run by that.
  static let waited = Duration.microseconds(20)

  private var began: MonotonicTime
  private var usedBefore: UInt64

  /// - Parameters:
  ///   - began: since when the loop has been running.
  ///   - used: the processor time in nanoseconds that its thread had used by then.
  init(began: MonotonicTime, used: UInt64) {
    self.began = began
    usedBefore = used
  }

  /// The loop goes on at `now` with its next turn; whether it is to let others run before.
  ///
  /// - Parameters:
  ///   - end: when the turn before was over.
  ///   - used: the processor time in nanoseconds that its thread has used. It is asked for, by a system call,
  ///     only where a slice seems to be used up: a loop that others have kept from running since it was last
  ///     asked for has not used one.
  mutating func isUsedUp(at now: MonotonicTime, after end: MonotonicTime, used: () -> UInt64)
    -> Bool
  {
    if now - end > Self.waited {
      began = now
      return false
    }
    guard now - began >= Self.length else { return false }
    began = now
    let used = used()
    defer { usedBefore = used }
    return used &- usedBefore >= Self.length.wholeNanoseconds
  }
}
