/// What lookups have found lately, and that they have found nothing.
struct LookupCache: Sendable {
  /// How often a full cache is looked through for what has expired.
  static let sweepInterval = Duration.milliseconds(100)

  private var results: [[UInt8]: (result: DHTLookupResult, expiry: Duration)] = [:]
  private(set) var bytes = 0
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
    change(key)
    let needed = Self.bytes(of: result, key)
    func isFull() -> Bool {
      results.count >= configuration.lookupCacheMax
        || bytes + needed > configuration.lookupCacheBytesMax
    }
    if isFull() {
      guard now >= nextSweep else { return }
      nextSweep = now + Self.sweepInterval
      removeExpired(now: now)
      guard !isFull() else { return }
    }
    bytes += needed
    results[key] = (result, now + age)
  }

  /// Something about a key has changed.
  mutating func change(_ key: [UInt8]) {
    guard let old = results.removeValue(forKey: key) else { return }
    bytes -= Self.bytes(of: old.result, key)
  }

  mutating func removeExpired(now: Duration) {
    guard !results.isEmpty else { return }
    results = results.filter { $0.value.expiry > now }
    bytes = results.reduce(0) { $0 + Self.bytes(of: $1.value.result, $1.key) }
  }

  private static func bytes(of result: DHTLookupResult, _ key: [UInt8]) -> Int {
    key.count + result.peers.count * MemoryLayout<DHTAddress>.stride
      + result.nodes.count * MemoryLayout<DHTContact>.stride
  }
}
