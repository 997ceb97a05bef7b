package import GrenacheIO
package import GrenacheTransport

/// Which grapes one who follows a key asks to tell of its changes, and how long it rests before it looks the
/// key up again. Time, chance and what came of each watch are given.
///
///     look up → watch one grape after the other, until one has told something → rest ↺
package struct FollowSchedule {
  /// How often a grape that offers no `watch` is asked for it again: grapes get upgraded.
  package static let offerInterval = Duration.seconds(60)

  /// How a watch ended.
  package enum WatchEnd: Hashable, Sendable {
    /// It told something, and the connection is gone.
    case lost
    /// The grape could not be connected to, or was gone or silent before it told anything.
    case unreachable
    /// The grape knows no watching, or does not allow it (any more).
    case notOffered
  }

  /// When grapes that offer no `watch` are asked again. One that is gone for a moment is not among them,
  /// whatever the others offer.
  private var nextOffers: [Endpoint: MonotonicTime] = [:]
  private var pace = FollowPace()
  /// How the watches since the last rest have ended, and how long the one lasted that told something.
  private var end: WatchEnd?
  private var lasted = Duration.zero

  package init() {}

  /// Whether that grape may offer a watch now.
  package func isWorthAsking(_ grape: Endpoint, at now: MonotonicTime) -> Bool {
    nextOffers[grape].map { $0 <= now } ?? true
  }

  /// - Parameter time: how long the watch lasted.
  /// - Returns: whether the next grape is to be asked for a watch, without a rest.
  package mutating func watchEnded(
    _ end: WatchEnd, at grape: Endpoint, lasting time: Duration, now: MonotonicTime
  ) -> Bool {
    switch end {
    case .lost:
      (self.end, lasted) = (.lost, time)
      return false
    case .unreachable:
      self.end = .unreachable
      return true
    case .notOffered:
      nextOffers[grape] = now + Self.offerInterval
      return true
    }
  }

  /// The rest before the next lookup, drawn by chance.
  package mutating func rest(
    lookupInterval: Duration, using generator: inout some RandomNumberGenerator
  ) -> Duration {
    defer { end = nil }
    return pace.pause(after: end, lasting: lasted, interval: lookupInterval, using: &generator)
  }
}
