package import GrenacheIO

/// Asking the grapes one after the other until one answers or says no: whom, until when, and with which
/// error it ends. It asks nobody itself: time, and what came of each attempt, are given.
///
///     next → ask → (failed → next)* → fail; who asks stops when one answers or refuses
///
/// Where the deadline comes before all were asked, `untried` says where to begin the next time: else those who
/// say nothing, in front, would keep the others from ever being asked.
package struct GrapeRound {
  /// What to do next.
  package enum Step {
    /// Ask the grape of this index.
    case ask(Int, by: MonotonicTime)
    case fail(GrenacheError)
  }

  private let count: Int
  private let first: Int
  private let attemptTimeout: Duration
  private let deadline: MonotonicTime?
  private var asked = 0
  private var failure = GrenacheError(.grapeUnreachable, "no grape answered")

  /// - Parameters:
  ///   - count: how many grapes there are.
  ///   - first: which is asked first.
  ///   - attemptTimeout: how long one may take.
  ///   - deadline: when all of it has to be over.
  package init(
    of count: Int, from first: Int, attemptTimeout: Duration, deadline: MonotonicTime? = nil
  ) {
    self.count = count
    self.first = first
    self.attemptTimeout = attemptTimeout
    self.deadline = deadline
  }

  package mutating func next(at now: MonotonicTime) -> Step {
    if asked > 0, let deadline, deadline <= now {
      return .fail(
        GrenacheError(.deadlineExceeded, "no grape answered in time", cause: failure.cause))
    }
    guard asked < count else { return .fail(failure) }
    let index = (first + asked) % count
    asked += 1
    let attempt = now + attemptTimeout
    return .ask(index, by: min(attempt, deadline ?? attempt))
  }

  /// The one whose turn would have been next; `nil` when all were asked.
  package var untried: Int? { asked < count ? (first + asked) % count : nil }

  /// The grape that was asked has not answered, or with nothing that can be understood.
  package mutating func failed(_ error: GrenacheError) { failure = error }
}
