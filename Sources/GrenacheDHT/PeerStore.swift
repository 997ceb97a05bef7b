/// Who has announced what, until it expires; bounded in every direction.
struct PeerStore: Sendable {
  private var peers: [[UInt8]: [DHTAddress: Duration]] = [:]
  private var countByIP: [UInt32: Int] = [:]
  private(set) var count = 0
  private let configuration: DHTConfiguration

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  var keyCount: Int { peers.count }

  /// Keeps an announcement, or renews it; returns whether there was room.
  mutating func insert(_ peer: DHTAddress, for key: [UInt8], now: Duration) -> Bool {
    let expiry = now + configuration.peerAgeMax
    if peers[key]?[peer] != nil {
      peers[key]?[peer] = expiry
      return true
    }
    if !hasRoom(for: peer, key) {
      removeExpired(now: now)
      guard hasRoom(for: peer, key) else { return false }
    }
    peers[key, default: [:]][peer] = expiry
    countByIP[peer.ip, default: 0] += 1
    count += 1
    return true
  }

  private func hasRoom(for peer: DHTAddress, _ key: [UInt8]) -> Bool {
    count < configuration.peersMax
      && (peers[key]?.count ?? 0) < configuration.peersPerKeyMax
      && (peers[key] != nil || peers.count < configuration.keysMax)
      && (countByIP[peer.ip] ?? 0) < configuration.peersPerAddressMax
  }

  /// The peers of `key` that have not expired, in an order that does not depend on hashing, so that a
  /// seed replays a simulation.
  func peers(of key: [UInt8], now: Duration) -> [DHTAddress] {
    guard let known = peers[key] else { return [] }
    return known.filter { $0.value > now }.map(\.key).sorted { ($0.ip, $0.port) < ($1.ip, $1.port) }
  }

  /// The same: all of them, or `max` drawn by chance.
  func peers(
    of key: [UInt8], now: Duration, max: Int, using generator: inout some RandomNumberGenerator
  ) -> [DHTAddress] {
    Array(peers(of: key, now: now).shuffled(using: &generator).prefix(max))
  }

  mutating func removeExpired(now: Duration) {
    for (key, known) in peers {
      for (peer, expiry) in known where expiry <= now {
        peers[key]?[peer] = nil
        count -= 1
        let left = (countByIP[peer.ip] ?? 1) - 1
        countByIP[peer.ip] = left > 0 ? left : nil
      }
      if peers[key]?.isEmpty == true { peers[key] = nil }
    }
  }
}
