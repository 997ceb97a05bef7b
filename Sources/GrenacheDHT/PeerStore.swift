/// Who has announced what, until it expires; bounded in every direction.
struct PeerStore: Sendable {
  /// Why an announcement is not kept.
  enum Refusal: Error, Hashable, Sendable {
    case full
    case addressLimit
  }

  private var peers: [[UInt8]: [DHTAddress: Duration]] = [:]
  private var countByHost: [DHTHost: Int] = [:]
  private(set) var count = 0
  private let configuration: DHTConfiguration

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  var keyCount: Int { peers.count }

  /// Keeps an announcement, or renews it; returns whether it is new.
  @discardableResult
  mutating func insert(
    _ peer: DHTAddress, for key: [UInt8], now: Duration, until expiry: Duration? = nil
  ) throws(Refusal) -> Bool {
    let expiry = expiry ?? now + configuration.peerAgeMax
    if let known = peers[key]?[peer] {
      peers[key]?[peer] = expiry
      return known <= now
    }
    if refusal(of: peer, key) != nil { removeExpired(now: now) }
    if let refusal = refusal(of: peer, key) { throw refusal }
    peers[key, default: [:]][peer] = expiry
    countByHost[peer.host, default: 0] += 1
    count += 1
    return true
  }

  private func refusal(of peer: DHTAddress, _ key: [UInt8]) -> Refusal? {
    if (countByHost[peer.host] ?? 0) >= configuration.peersPerAddressMax { return .addressLimit }
    let hasRoom =
      count < configuration.peersMax
      && (peers[key]?.count ?? 0) < configuration.peersPerKeyMax
      && (peers[key] != nil || peers.count < configuration.keysMax)
    return hasRoom ? nil : .full
  }

  /// Forgets an announcement; returns whether there was one.
  mutating func remove(_ peer: DHTAddress, for key: [UInt8]) -> Bool {
    guard peers[key]?.removeValue(forKey: peer) != nil else { return false }
    if peers[key]?.isEmpty == true { peers[key] = nil }
    forget(peer.host)
    return true
  }

  private mutating func forget(_ host: DHTHost) {
    count -= 1
    let left = (countByHost[host] ?? 1) - 1
    countByHost[host] = left > 0 ? left : nil
  }

  /// The peers of `key` that have not expired, in an order that does not depend on hashing, so that a
  /// seed replays a simulation.
  func peers(of key: [UInt8], now: Duration) -> [DHTAddress] {
    guard let known = peers[key] else { return [] }
    return known.filter { $0.value > now }.map(\.key).sorted()
  }

  /// The same, of one network: all of them, or `max` drawn by chance.
  func peers(
    of key: [UInt8], _ family: DHTFamily, now: Duration, max: Int,
    using generator: inout some RandomNumberGenerator
  ) -> [DHTAddress] {
    let known = peers(of: key, now: now).filter { $0.family == family }
    return Array(known.shuffled(using: &generator).prefix(max))
  }

  /// Every announcement and when it expires.
  var all: [(key: [UInt8], peer: DHTAddress, expiry: Duration)] {
    peers.flatMap { key, known in known.map { (key, $0.key, $0.value) } }
  }

  /// Forgets what has expired; returns the keys that it concerns.
  @discardableResult
  mutating func removeExpired(now: Duration) -> [[UInt8]] {
    var keys: [[UInt8]] = []
    for (key, known) in peers {
      let expired = known.filter { $0.value <= now }
      guard !expired.isEmpty else { continue }
      keys.append(key)
      for peer in expired.keys {
        peers[key]?[peer] = nil
        forget(peer.host)
      }
      if peers[key]?.isEmpty == true { peers[key] = nil }
    }
    return keys
  }
}
