internal import GrenacheIO

/// How long a subscriber waits before it connects to a publisher again: drawn by chance, so that many
/// subscribers do not come back at once.
package struct ReconnectPace: Sendable {
  /// A connection that lasts as long was a good one, whether something was said or not.
  package static let steadyTime = Duration.seconds(5)
  /// A publisher that nobody announces any more is given up after as many failures in a row: what it
  /// still says after a short absence need not be lost.
  package static let failuresMax = 2

  private(set) var failures = 0

  package init() {}

  package var isToGiveUp: Bool { failures >= Self.failuresMax }

  package mutating func connectFailed() { failures = min(failures + 1, 16) }

  /// - Parameter isViolated: whether the publisher has broken a rule or a limit, as it is going to do again.
  /// - Returns: whether it was worth connecting.
  package mutating func connectionEnded(
    hasHeard: Bool, after time: Duration, isViolated: Bool = false
  ) -> Bool {
    if isViolated {
      if time >= Self.steadyTime { failures = 0 }
      connectFailed()
      return false
    }
    guard hasHeard || time >= Self.steadyTime else {
      connectFailed()
      return false
    }
    failures = 0
    return true
  }

  package func pause(
    from shortest: Duration, to longest: Duration, using generator: inout some RandomNumberGenerator
  ) -> Duration {
    let most = min(shortest * (1 << max(0, failures - 1)), longest)
    return most * Double.random(in: 0.5...1, using: &generator)
  }
}
