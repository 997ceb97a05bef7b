package import GrenacheIO

/// When a hedged call is sent to a second worker as well, and which of both answers counts. It sends
/// nothing itself: time, and how the attempts ended, are given.
///
///     first → (delay) both → decided, or too late; then the attempts that are left are cancelled
package struct RPCHedge<Reply> {
  /// What to do next.
  package enum Step {
    /// Nothing, until an attempt has ended or it is so late.
    case wait(until: MonotonicTime)
    case startSecond
    /// The call is over: cancel what is left of it.
    case over(Result<Reply, GrenacheError>)
  }
  private enum State {
    case first
    case both(runners: Int)
    case decided(Result<Reply, GrenacheError>)
  }
  private var state = State.first
  private let hedgeAt: MonotonicTime
  private let deadline: MonotonicTime

  /// A call whose first attempt begins now.
  package init(at now: MonotonicTime, delay: Duration, deadline: MonotonicTime) {
    hedgeAt = now + delay
    self.deadline = deadline
  }

  package mutating func next(at now: MonotonicTime) -> Step {
    switch state {
    case .decided(let result):
      return .over(result)
    case .first where hedgeAt <= now && now < deadline:
      state = .both(runners: 2)
      return .startSecond
    case .first, .both:
      guard now < deadline else {
        return .over(.failure(GrenacheError(.deadlineExceeded, "nobody answered in time")))
      }
      if case .first = state { return .wait(until: min(hedgeAt, deadline)) }
      return .wait(until: deadline)
    }
  }

  /// An attempt has ended. An answer decides, be it an error that the worker's handler has answered with;
  /// that a worker was not reached, or lost, does not while the other attempt is under way.
  ///
  /// - Returns: whether there is something to do.
  package mutating func ended(_ result: Result<Reply, GrenacheError>) -> Bool {
    switch state {
    case .decided:
      return false
    case .both(let runners) where runners > 1 && !Self.isAnswer(result):
      state = .both(runners: runners - 1)
      return false
    case .first, .both:
      state = .decided(result)
      return true
    }
  }

  private static func isAnswer(_ result: Result<Reply, GrenacheError>) -> Bool {
    guard case .failure(let error) = result else { return true }
    return error.code == .remoteError || error.code == .notPermitted
      || error.code == .invalidPayload
  }
}
