/// What lookups have found lately, and that they have found nothing.
struct LookupCache: Sendable {
  private var results: [[UInt8]: (result: DHTLookupResult, expiry: Duration)] = [:]

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
    if results.count >= configuration.lookupCacheMax {
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
