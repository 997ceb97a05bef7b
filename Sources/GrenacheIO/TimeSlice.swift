/// When a loop that always has something to do lets the other threads of its core run.
///
/// The kernel looks at who should run at its tick, 4 ms apart on many systems. A loop that a stream keeps
/// busy would let a caller, who needs 10 microseconds to take a reply, wait for so long each time.
struct TimeSlice {
  /// How long a loop goes on, and what it asks the kernel for as its slice.
  static let length = Duration.microseconds(200)
  /// Whoever was away longer than this between two turns has waited, and let others run by that.
  static let waited = Duration.microseconds(20)

  private var began: MonotonicTime

  /// - Parameter began: since when the loop has been running.
  init(began: MonotonicTime) {
    self.began = began
  }

  /// Whether the loop, whose turn is over at `end`, is to let others run.
  func isUsedUp(at end: MonotonicTime) -> Bool { end - began >= Self.length }

  /// The loop's next turn begins.
  ///
  /// - Parameter end: when the one before it was over; `nil` when others have been let run since.
  mutating func turnBegins(at now: MonotonicTime, after end: MonotonicTime?) {
    if let end, now - end <= Self.waited { return }
    began = now
  }
}
