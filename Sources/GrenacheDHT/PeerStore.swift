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
  private var countByPrefix = LargestOwner<UInt64>()
  /// The same as they expire.
  private var orderByPrefix: [UInt64: ExpiryOrder] = [:]
  /// Keys that nobody but strangers has announced.
  private var strangerKeyCount = 0
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
      set(peer, key, renewed)
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
    count += 1
    countByCaller.add(entry.caller)
    if !entry.isOwn {
      countByHost.add(peer.host)
      countByPrefix.add(peer.host.prefix)
    }
    set(peer, key, entry)
  }

  /// Keeps what is counted already.
  private mutating func set(_ peer: DHTAddress, _ key: [UInt8], _ entry: Entry) {
    change(key) { $0.set(peer, entry) }
    guard !entry.isOwn else { return }
    let prefix = peer.host.prefix
    let place = ExpiryOrder.Place(expiry: entry.expiry, key: key, peer: peer)
    orderByPrefix[prefix, default: ExpiryOrder()].add(
      place, among: countByPrefix.counts[prefix]
    ) { [peers] in Self.stands($0, in: peers) }
  }

  /// Changes the announcements of a key, which goes with the last of them.
  private mutating func change<Result>(
    _ key: [UInt8], _ body: (inout KeyAnnouncements) -> Result
  ) -> Result {
    if peers[key]?.areStrangers == true { strangerKeyCount -= 1 }
    let result = body(&peers[key, default: KeyAnnouncements()])
    if peers[key]?.count == 0 { peers[key] = nil }
    if peers[key]?.areStrangers == true { strangerKeyCount += 1 }
    return result
  }

  /// Whether that is still a stranger's announcement.
  private static func stands(
    _ place: ExpiryOrder.Place, in peers: [[UInt8]: KeyAnnouncements]
  ) -> Bool {
    guard let peer = place.peer, let entry = peers[place.key]?[peer] else { return false }
    return !entry.isOwn && entry.expiry == place.expiry
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
      countByPrefix.counts[host.prefix] >= configuration.peersPerPrefixMax
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

  // MARK: Making room

  /// What makes room for an announcement of this node's own callers: strangers' of the key if that is
  /// full, a key that only strangers have announced if there are too many, or any of strangers'; that
  /// of the network which has most, and of its the one that would expire first.
  private mutating func displaceable(
    for key: [UInt8]
  ) -> (key: [UInt8], peers: [DHTAddress])? {
    if let known = peers[key], known.count >= configuration.peersPerKeyMax {
      return stranger(of: known).map { (key, [$0]) }
    }
    guard let largest = countByPrefix.largest() else { return nil }
    guard peers[key] == nil, peers.count >= configuration.keysMax else {
      let first = orderByPrefix[largest]?.first { [peers] in Self.stands($0, in: peers) }
      return first.flatMap { first in first.peer.map { (first.key, [$0]) } }
    }
    guard let key = strangerKey(of: largest) else { return nil }
    return (key, peers[key]?.all.map(\.peer) ?? [])
  }

  /// The stranger among those of a key whose network has most.
  private func stranger(of known: KeyAnnouncements) -> DHTAddress? {
    known.all.filter { !$0.entry.isOwn }.map(\.peer).max { left, right in
      (countByPrefix.counts[left.host.prefix], left)
        < (countByPrefix.counts[right.host.prefix], right)
    }
  }

  /// A key that only strangers have announced, that network if possible.
  private func strangerKey(of network: UInt64) -> [UInt8]? {
    guard strangerKeyCount > 0 else { return nil }
    let places = (orderByPrefix[network]?.all ?? []).filter { place in
      Self.stands(place, in: peers) && peers[place.key]?.areStrangers == true
    }
    if let first = places.min() { return first.key }
    return peers.lazy.filter { $0.value.areStrangers }.map(\.key)
      .min { $0.lexicographicallyPrecedes($1) }
  }

  /// Forgets an announcement; returns whether there was one.
  mutating func remove(_ peer: DHTAddress, for key: [UInt8]) -> Bool {
    guard peers[key] != nil, let entry = change(key, { $0.remove(peer) }) else { return false }
    forget(peer.host, entry)
    return true
  }

  private mutating func forget(_ host: DHTHost, _ entry: Entry) {
    count -= 1
    countByCaller.remove(entry.caller)
    guard !entry.isOwn else { return }
    countByHost.remove(host)
    countByPrefix.remove(host.prefix)
    if countByPrefix.counts[host.prefix] == 0 { orderByPrefix[host.prefix] = nil }
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
      for (peer, _) in expired { _ = remove(peer, for: key) }
    }
    return keys
  }
}
