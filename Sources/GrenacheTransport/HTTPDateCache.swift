internal import GrenacheFraming
internal import GrenacheIO

/// The value of the `Date` field (RFC 9110 §6.6.1), formatted at most once a second.
struct HTTPDateCache {
  private var text: [UInt8] = []
  private var validUntil = MonotonicTime(nanoseconds: 0)

  mutating func value(at now: MonotonicTime) -> [UInt8] {
    if now >= validUntil {
      let wall = WallClock.now()
      text = HTTPDate.imfFixdate(secondsSince1970: wall.seconds)
      validUntil = now + .nanoseconds(1_000_000_000 - wall.nanoseconds)
    }
    return text
  }
}
