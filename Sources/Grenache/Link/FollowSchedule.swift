package import GrenacheIO
package import GrenacheTransport

/// Which grapes one who follows a key asks to tell of its changes, and how long it rests before it looks the
/// key up again. Time, chance and what came of each watch are given.
///
///     look up → watch one grape after the other, until one has told something → rest ↺
package struct FollowSchedule {
  /// How often a grape that offers no `watch` is asked for it again: grapes get upgraded.
  package static let offerInterval = Duration.seconds(60)
  /// The rest after a watch has ended, at first; it doubles with each that tells nothing, up to the
  /// interval of lookups.
  package static let restMin = Duration.milliseconds(200)

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
  private var failures = 0
  private var wasLost = false
  private var wasUnreachable = false

  package init() {}

  /// Whether that grape may offer a watch now.
  package func isWorthAsking(_ grape: Endpoint, at now: MonotonicTime) -> Bool {
    nextOffers[grape].map { $0 <= now } ?? true
  }

  /// - Returns: whether the next grape is to be asked for a watch, without a rest.
  package mutating func watchEnded(
    _ end: WatchEnd, at grape: Endpoint, now: MonotonicTime
  ) -> Bool {
    switch end {
    case .lost:
      wasLost = true
      return false
    case .unreachable:
      wasUnreachable = true
      return true
    case .notOffered:
      nextOffers[grape] = now + Self.offerInterval
      return true
    }
  }

  /// The rest before the next lookup, a quarter longer or shorter by chance.
  package mutating func rest(
    lookupInterval: Duration, using generator: inout some RandomNumberGenerator
  ) -> Duration {
    var rest = lookupInterval
    if wasLost {
      failures = 0
      rest = min(Self.restMin, rest)
    } else if wasUnreachable {
      rest = min(Self.restMin * (1 << failures), rest)
      failures = min(failures + 1, 10)
    }
    wasLost = false
    wasUnreachable = false
    return rest * Double.random(in: 0.75...1.25, using: &generator)
  }
}
