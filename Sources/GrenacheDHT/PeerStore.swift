/// Who has announced what, until it expires; bounded in every direction.
struct PeerStore: Sendable {
  /// Why an announcement is not kept.
  enum Refusal: Error, Hashable, Sendable {
    case full
    case addressLimit
    case callerLimit
  }

  private typealias Entry = KeyAnnouncements.Entry

  /// How often a store that is full, or somebody's share of it, is looked through for what has expired:
  /// whoever is refused asks again as fast as he can.
  static let sweepInterval = Duration.seconds(1)

  private var peers: [[UInt8]: KeyAnnouncements] = [:]
  private var nextSweep = Duration.zero
  /// What strangers have announced, by their addresses and networks.
  private var countByHost = CountByOwner<DHTHost>()
  private var countByPrefix = CountByOwner<UInt64>()
  /// What this node's own callers have announced.
  private var countByCaller = CountByOwner<DHTCaller>()
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
      var renewed = known
      renewed.expiry = expiry
      peers[key]?.set(peer, renewed)
      return known.expiry <= now
    }
    if refusal(of: peer, key) != nil { sweep(now: now) }
    if let refusal = refusal(of: peer, key) { throw refusal }
    add(peer, key, Entry(expiry: expiry, isOwn: false))
    return true
  }

  /// Keeps what this node's own callers announce, for which strangers' announcements make room.
  ///
  /// - Returns: whether it is new, and the keys of the announcements that have made room.
  mutating func insertOwn(
    _ peer: DHTAddress, for key: [UInt8], by caller: DHTCaller? = nil, now: Duration,
    until expiry: Duration? = nil
  ) throws(Refusal) -> (isNew: Bool, displaced: [[UInt8]]) {
    let entry = Entry(
      expiry: expiry ?? now + configuration.peerAgeMax, isOwn: true, caller: caller)
    // Whoever keeps it alive has it counted: a fleet's worker may take over from another.
    if let caller, peers[key]?[peer]?.caller != caller {
      if hasMost(caller) { sweep(now: now) }
      guard !hasMost(caller) else { throw .callerLimit }
    }
    if let known = peers[key]?[peer] {
      _ = remove(peer, for: key)
      add(peer, key, entry)
      return (known.expiry <= now, [])
    }
    if !hasRoom(for: key) { sweep(now: now) }
    var displaced: [[UInt8]] = []
    while !hasRoom(for: key) {
      guard let victim = displaceable(for: key) else { throw .full }
      for peer in victim.peers { _ = remove(peer, for: victim.key) }
      displaced.append(victim.key)
    }
    add(peer, key, entry)
    return (true, displaced)
  }

  private func hasMost(_ caller: DHTCaller) -> Bool {
    countByCaller[caller] >= configuration.peersPerCallerMax
  }

  private mutating func add(_ peer: DHTAddress, _ key: [UInt8], _ entry: Entry) {
    peers[key, default: KeyAnnouncements()].set(peer, entry)
    count += 1
    countByCaller.add(entry.caller)
    guard !entry.isOwn else { return }
    countByHost.add(peer.host)
    countByPrefix.add(peer.host.prefix)
  }

  private func refusal(of peer: DHTAddress, _ key: [UInt8]) -> Refusal? {
    let host = peer.host
    let ofHost = countByHost[host]
    if ofHost >= configuration.peersPerAddressMax
      || !host.isLoopback && ofHost >= configuration.peersPerRemoteAddressMax
    {
      return .addressLimit
    }
    if configuration.limitsPrefix(of: host),
      countByPrefix[host.prefix] >= configuration.peersPerPrefixMax
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
    func consider(_ other: [UInt8], _ known: KeyAnnouncements) {
      if needsKey, known.all.contains(where: \.entry.isOwn) { return }
      for (peer, entry) in known.all where !entry.isOwn {
        let rank = (countByPrefix[peer.host.prefix], peer)
        if let best, best.rank > rank { continue }
        if let best, best.rank == rank, best.key.lexicographicallyPrecedes(other) { continue }
        best = (rank, other, [peer])
      }
    }
    if isKeyFull {
      consider(key, peers[key] ?? KeyAnnouncements())
    } else {
      for (other, known) in peers { consider(other, known) }
    }
    guard let best else { return nil }
    return (best.key, needsKey ? peers[best.key]?.all.map(\.peer) ?? [] : best.peers)
  }

  /// Forgets an announcement; returns whether there was one.
  mutating func remove(_ peer: DHTAddress, for key: [UInt8]) -> Bool {
    guard let entry = peers[key]?.remove(peer) else { return false }
    if peers[key]?.count == 0 { peers[key] = nil }
    forget(peer.host, entry)
    return true
  }

  private mutating func forget(_ host: DHTHost, _ entry: Entry) {
    count -= 1
    countByCaller.remove(entry.caller)
    guard !entry.isOwn else { return }
    countByHost.remove(host)
    countByPrefix.remove(host.prefix)
  }

  /// The peers of `key` that have not expired, in an order that does not depend on hashing.
  func peers(of key: [UInt8], now: Duration) -> [DHTAddress] {
    (peers[key]?.all ?? []).compactMap { $0.entry.expiry > now ? $0.peer : nil }
  }

  /// So many of them by chance, each as `shown` gives it.
  func draw(
    _ max: Int, of key: [UInt8], now: Duration, using generator: inout some RandomNumberGenerator,
    as shown: (DHTAddress) -> DHTAddress?
  ) -> [DHTAddress] {
    peers[key]?.draw(max, at: now, using: &generator, as: shown) ?? []
  }

  /// The announcements of a key.
  func announcements(of key: [UInt8]) -> [(peer: DHTAddress, entry: KeyAnnouncements.Entry)] {
    peers[key]?.all ?? []
  }

  /// Every announcement.
  var all: [(key: [UInt8], peer: DHTAddress, entry: KeyAnnouncements.Entry)] {
    peers.flatMap { key, known in known.all.map { (key, $0.peer, $0.entry) } }
  }

  /// Makes room, but once in a while only: what has expired since then waits.
  private mutating func sweep(now: Duration) {
    guard now >= nextSweep else { return }
    nextSweep = now + Self.sweepInterval
    removeExpired(now: now)
  }

  /// Forgets what has expired; returns the keys that it concerns.
  @discardableResult
  mutating func removeExpired(now: Duration) -> [[UInt8]] {
    var keys: [[UInt8]] = []
    for (key, known) in peers {
      let expired = known.all.filter { $0.entry.expiry <= now }
      guard !expired.isEmpty else { continue }
      keys.append(key)
      for (peer, entry) in expired {
        _ = peers[key]?.remove(peer)
        forget(peer.host, entry)
      }
      if peers[key]?.count == 0 { peers[key] = nil }
    }
    return keys
  }
}
