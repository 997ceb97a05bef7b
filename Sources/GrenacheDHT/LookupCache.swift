/// What lookups have found lately, and that they have found nothing.
struct LookupCache: Sendable {
  /// How often a full cache is looked through for what has expired.
  static let sweepInterval = Duration.milliseconds(100)

  private var results: [[UInt8]: (result: DHTLookupResult, expiry: Duration)] = [:]
  private var nextSweep = Duration.zero

  func result(for key: [UInt8], now: Duration) -> DHTLookupResult? {
    guard let known = results[key], known.expiry > now else { return nil }
    var result = known.result
    result.isCached = true
    return result
  }

  mutating func keep(
    _ result: DHTLookupResult, for key: [UInt8], now: Duration, _ configuration: DHTConfiguration
  ) {
    let age =
      result.peers.isEmpty ? configuration.negativeCacheAge : configuration.lookupCacheAge
    guard age > .zero else { return }
    if results.count >= configuration.lookupCacheMax, results[key] == nil {
      guard now >= nextSweep else { return }
      nextSweep = now + Self.sweepInterval
      removeExpired(now: now)
      guard results.count < configuration.lookupCacheMax else { return }
    }
    results[key] = (result, now + age)
  }

  /// Something about a key has changed.
  mutating func change(_ key: [UInt8]) {
    results[key] = nil
  }

  mutating func removeExpired(now: Duration) {
    if !results.isEmpty { results = results.filter { $0.value.expiry > now } }
  }
}
