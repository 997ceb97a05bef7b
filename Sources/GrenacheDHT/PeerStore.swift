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
  /// How often a network that has much makes room, of half of what it has more than another.
  static let sharingInterval = Duration.milliseconds(100)

  private var peers: [[UInt8]: KeyAnnouncements] = [:]
  private var nextSweep = Duration.zero
  private var nextSharing = Duration.zero
  /// What strangers have announced, by their addresses and networks.
  private var countByHost = CountByOwner<DHTHost>()
  private var countByPrefix = CountByOwner<UInt64>()
  /// Which network has most of that, loopback aside.
  private var largestPrefix = LargestOwner<UInt64>()
  /// What this node's own callers have announced.
  private var countByCaller = CountByOwner<DHTCaller>()
  private(set) var count = 0
  private let configuration: DHTConfiguration

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  var keyCount: Int { peers.count }

  /// Keeps a stranger's announcement, or renews it. In a full store, and of a full key, the network that
  /// has most makes room.
  ///
  /// - Parameter isContact: whether it comes from a node that has proven to be there.
  /// - Returns: whether it is new, and the keys of the announcements that have made room.
  @discardableResult
  mutating func insert(
    _ peer: DHTAddress, for key: [UInt8], isContact: Bool = false, now: Duration,
    until expiry: Duration? = nil
  ) throws(Refusal) -> (isNew: Bool, displaced: [[UInt8]]) {
    let expiry = expiry ?? now + configuration.peerAgeMax
    if var known = peers[key]?[peer] {
      let isNew = known.expiry <= now
      known.expiry = expiry
      peers[key]?.set(peer, known)
      return (isNew, [])
    }
    if share(of: peer.host, key, isContact) || !hasRoom(for: key) { sweep(now: now) }
    guard !share(of: peer.host, key, isContact) else { throw .addressLimit }
    let displaced = hasRoom(for: key) ? [] : makeRoom(for: peer.host, key, now: now)
    guard hasRoom(for: key) else { throw .full }
    add(peer, key, Entry(expiry: expiry, isOwn: false))
    return (true, displaced)
  }

  /// Keeps what this node's own callers announce, for which strangers' announcements make room.
  ///
  /// - Returns: whether it is new, and the keys of the announcements that have made room.
  mutating func insertOwn(
    _ peer: DHTAddress, for key: [UInt8], by caller: DHTCaller? = nil, now: Duration,
    until expiry: Duration? = nil
  ) throws(Refusal) -> (isNew: Bool, displaced: [[UInt8]]) {
    let end = expiry ?? now + configuration.peerAgeMax
    let entry = Entry(expiry: end, isOwn: true, caller: caller, ownUntil: end)
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
    largestPrefix.add(peer.host.isLoopback ? nil : peer.host.prefix)
  }

  /// Whether a stranger, or his network, has as much as he may, of the key or of all.
  private func share(of host: DHTHost, _ key: [UInt8], _ isContact: Bool) -> Bool {
    let ofHost = countByHost[host]
    let hostMax =
      isContact ? configuration.peersPerContactMax : configuration.peersPerRemoteAddressMax
    if ofHost >= configuration.peersPerAddressMax || !host.isLoopback && ofHost >= hostMax {
      return true
    }
    guard configuration.limitsPrefix(of: host) else { return false }
    let prefixMax =
      isContact
      ? max(configuration.peersPerPrefixMax, configuration.peersPerContactMax)
      : configuration.peersPerPrefixMax
    return countByPrefix[host.prefix] >= prefixMax
      || (peers[key]?.strangersByPrefix[host.prefix] ?? 0) >= configuration.peersPerKeyAndPrefixMax
  }

  private func hasRoom(for key: [UInt8]) -> Bool {
    count < configuration.peersMax && !isFull(key)
      && (peers[key] != nil || peers.count < configuration.keysMax)
  }

  private func isFull(_ key: [UInt8]) -> Bool {
    (peers[key]?.count ?? 0) >= configuration.peersPerKeyMax
  }

  /// Has the network that has most make room for a stranger of another that has less, if there is one:
  /// of a full key one announcement; of a full store half of what it has more, at once and once in a
  /// while only, for that looks at all there is.
  ///
  /// - Returns: the keys of the announcements that have gone.
  private mutating func makeRoom(
    for host: DHTHost, _ key: [UInt8], now: Duration
  ) -> [[UInt8]] {
    if isFull(key) {
      guard let peer = peers[key]?.displaceable(for: host.prefix) else { return [] }
      return remove(peer, for: key) ? [key] : []
    }
    guard let largest = largestPrefix.largest() else { return [] }
    let excess = countByPrefix[largest] - countByPrefix[host.prefix]
    guard excess > 1, now >= nextSharing else { return [] }
    nextSharing = now + Self.sharingInterval
    let needsKey = peers[key] == nil && peers.count >= configuration.keysMax
    var found: [(expiry: Duration, key: [UInt8], peer: DHTAddress)] = []
    for (key, known) in peers where !needsKey || known.count == 1 {
      for (peer, entry) in known.all where !entry.isOwn && peer.host.prefix == largest {
        found.append((entry.expiry, key, peer))
      }
    }
    found.sort { left, right in
      (left.expiry, left.peer) == (right.expiry, right.peer)
        ? left.key.lexicographicallyPrecedes(right.key)
        : (left.expiry, left.peer) < (right.expiry, right.peer)
    }
    return found.prefix(excess / 2).compactMap { remove($0.peer, for: $0.key) ? $0.key : nil }
  }

  /// What makes room for an announcement of this node's own callers: strangers' of the key if that is
  /// full, a key that only strangers have announced if there are too many, or any of strangers'; that
  /// of the network which has most.
  private func displaceable(for key: [UInt8]) -> (key: [UInt8], peers: [DHTAddress])? {
    let isKeyFull = isFull(key)
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

  /// Forgets what datagrams have announced: what this node's own callers did stays for as long as they
  /// have said.
  mutating func removeStrangers(_ peer: DHTAddress, for key: [UInt8], now: Duration) -> Bool {
    guard var entry = peers[key]?[peer], entry.isOwn, entry.ownUntil > now else {
      return remove(peer, for: key)
    }
    entry.expiry = entry.ownUntil
    peers[key]?.set(peer, entry)
    return false
  }

  private mutating func forget(_ host: DHTHost, _ entry: Entry) {
    count -= 1
    countByCaller.remove(entry.caller)
    guard !entry.isOwn else { return }
    countByHost.remove(host)
    countByPrefix.remove(host.prefix)
    largestPrefix.remove(host.isLoopback ? nil : host.prefix)
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
