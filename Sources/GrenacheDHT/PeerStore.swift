/// Who has announced what, until it expires; bounded in every direction.
struct PeerStore: Sendable {
  /// Why an announcement is not kept.
  enum Refusal: Error, Hashable, Sendable {
    case full
    case addressLimit
  }

  private struct Entry: Sendable {
    var expiry: Duration
    /// Whether this node's own callers have announced it.
    var isOwn: Bool
  }

  private var peers: [[UInt8]: [DHTAddress: Entry]] = [:]
  /// What strangers have announced, by their addresses and networks.
  private var countByHost: [DHTHost: Int] = [:]
  private var countByPrefix: [UInt64: Int] = [:]
  private(set) var count = 0
  private let configuration: DHTConfiguration

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  var keyCount: Int { peers.count }

  /// Keeps a stranger's announcement, or renews it; returns whether it is new.
  @discardableResult
  mutating func insert(
    _ peer: DHTAddress, for key: [UInt8], now: Duration, until expiry: Duration? = nil
  ) throws(Refusal) -> Bool {
    let expiry = expiry ?? now + configuration.peerAgeMax
    if let known = peers[key]?[peer] {
      peers[key]?[peer]?.expiry = expiry
      return known.expiry <= now
    }
    if refusal(of: peer, key) != nil { removeExpired(now: now) }
    if let refusal = refusal(of: peer, key) { throw refusal }
    add(peer, key, Entry(expiry: expiry, isOwn: false))
    return true
  }

  /// Keeps what this node's own callers announce, for which strangers' announcements make room.
  ///
  /// - Returns: whether it is new, and the keys of the announcements that have made room.
  mutating func insertOwn(
    _ peer: DHTAddress, for key: [UInt8], now: Duration
  ) throws(Refusal) -> (isNew: Bool, displaced: [[UInt8]]) {
    let entry = Entry(expiry: now + configuration.peerAgeMax, isOwn: true)
    if let known = peers[key]?[peer] {
      _ = remove(peer, for: key)
      add(peer, key, entry)
      return (known.expiry <= now, [])
    }
    if !hasRoom(for: key) { removeExpired(now: now) }
    var displaced: [[UInt8]] = []
    while !hasRoom(for: key) {
      guard let victim = displaceable(for: key) else { throw .full }
      for peer in victim.peers { _ = remove(peer, for: victim.key) }
      displaced.append(victim.key)
    }
    add(peer, key, entry)
    return (true, displaced)
  }

  private mutating func add(_ peer: DHTAddress, _ key: [UInt8], _ entry: Entry) {
    peers[key, default: [:]][peer] = entry
    count += 1
    guard !entry.isOwn else { return }
    countByHost[peer.host, default: 0] += 1
    countByPrefix[peer.host.prefix, default: 0] += 1
  }

  private func refusal(of peer: DHTAddress, _ key: [UInt8]) -> Refusal? {
    let host = peer.host
    let ofHost = countByHost[host] ?? 0
    if ofHost >= configuration.peersPerAddressMax
      || !host.isLoopback && ofHost >= configuration.peersPerRemoteAddressMax
    {
      return .addressLimit
    }
    if configuration.limitsPrefix(of: host),
      (countByPrefix[host.prefix] ?? 0) >= configuration.peersPerPrefixMax
    {
      return .addressLimit
    }
    return hasRoom(for: key) ? nil : .full
  }

  private func hasRoom(for key: [UInt8]) -> Bool {
    count < configuration.peersMax
      && (peers[key]?.count ?? 0) < configuration.peersPerKeyMax
      && (peers[key] != nil || peers.count < configuration.keysMax)
  }

  /// What makes room for an announcement of this node's own callers: strangers' of the key if that is
  /// full, a key that only strangers have announced if there are too many, or any of strangers'; that
  /// of the network which has most.
  private func displaceable(for key: [UInt8]) -> (key: [UInt8], peers: [DHTAddress])? {
    let isKeyFull = (peers[key]?.count ?? 0) >= configuration.peersPerKeyMax
    let needsKey = peers[key] == nil && peers.count >= configuration.keysMax
    var best: (rank: (Int, DHTAddress), key: [UInt8], peers: [DHTAddress])?
    for (other, known) in peers where !isKeyFull || other == key {
      if needsKey, known.values.contains(where: \.isOwn) { continue }
      for (peer, entry) in known where !entry.isOwn {
        let rank = (countByPrefix[peer.host.prefix] ?? 0, peer)
        if let best, best.rank > rank { continue }
        if let best, best.rank == rank, best.key.lexicographicallyPrecedes(other) { continue }
        best = (rank, other, [peer])
      }
    }
    guard let best else { return nil }
    return (best.key, needsKey ? Array((peers[best.key] ?? [:]).keys) : best.peers)
  }

  /// Forgets an announcement; returns whether there was one.
  mutating func remove(_ peer: DHTAddress, for key: [UInt8]) -> Bool {
    guard let entry = peers[key]?.removeValue(forKey: peer) else { return false }
    if peers[key]?.isEmpty == true { peers[key] = nil }
    forget(peer.host, entry)
    return true
  }

  private mutating func forget(_ host: DHTHost, _ entry: Entry) {
    count -= 1
    guard !entry.isOwn else { return }
    let ofHost = (countByHost[host] ?? 1) - 1
    countByHost[host] = ofHost > 0 ? ofHost : nil
    let ofPrefix = (countByPrefix[host.prefix] ?? 1) - 1
    countByPrefix[host.prefix] = ofPrefix > 0 ? ofPrefix : nil
  }

  /// The peers of `key` that have not expired, in an order that does not depend on hashing, so that a
  /// seed replays a simulation.
  func peers(of key: [UInt8], now: Duration) -> [DHTAddress] {
    guard let known = peers[key] else { return [] }
    return known.filter { $0.value.expiry > now }.map(\.key).sorted()
  }

  /// The same, of one network.
  func peers(of key: [UInt8], _ family: DHTFamily, now: Duration) -> [DHTAddress] {
    peers(of: key, now: now).filter { $0.family == family }
  }

  /// Every announcement and when it expires.
  var all: [(key: [UInt8], peer: DHTAddress, expiry: Duration)] {
    peers.flatMap { key, known in known.map { (key, $0.key, $0.value.expiry) } }
  }

  /// Forgets what has expired; returns the keys that it concerns.
  @discardableResult
  mutating func removeExpired(now: Duration) -> [[UInt8]] {
    var keys: [[UInt8]] = []
    for (key, known) in peers {
      let expired = known.filter { $0.value.expiry <= now }
      guard !expired.isEmpty else { continue }
      keys.append(key)
      for (peer, entry) in expired {
        peers[key]?[peer] = nil
        forget(peer.host, entry)
      }
      if peers[key]?.isEmpty == true { peers[key] = nil }
    }
    return keys
  }
}
