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
  /// Keys of what has expired and made room, until somebody is told.
  private var swept: [[UInt8]] = []
  private var nextSharing = Duration.zero
  /// What strangers have announced, by their addresses and networks.
  private var countByHost = CountByOwner<DHTHost>()
  private var countByPrefix = LargestOwner<UInt64>()
  /// The same without loopback, which is no network of strangers that could crowd others out.
  private var largestPrefix = LargestOwner<UInt64>()
  /// The announcements of each network as they expire.
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
      set(peer, key, known)
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
    count += 1
    countByCaller.add(entry.caller)
    if !entry.isOwn {
      countByHost.add(peer.host)
      countByPrefix.add(peer.host.prefix)
      largestPrefix.add(peer.host.isLoopback ? nil : peer.host.prefix)
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
    return countByPrefix.counts[host.prefix] >= prefixMax
      || (peers[key]?.strangersByPrefix[host.prefix] ?? 0) >= configuration.peersPerKeyAndPrefixMax
  }

  private func hasRoom(for key: [UInt8]) -> Bool {
    count < configuration.peersMax && !isFull(key)
      && (peers[key] != nil || peers.count < configuration.keysMax)
  }

  private func isFull(_ key: [UInt8]) -> Bool {
    (peers[key]?.count ?? 0) >= configuration.peersPerKeyMax
  }

  // MARK: Making room

  /// Has the network that has most make room for a stranger of another that has less, if there is one: in
  /// a full key of that key, in a full store of what would expire first.
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
    let excess = countByPrefix.counts[largest] - countByPrefix.counts[host.prefix]
    guard excess > 1 else { return [] }
    guard peers[key] == nil, peers.count >= configuration.keysMax else {
      let first = orderByPrefix[largest]?.first { [peers] in Self.stands($0, in: peers) }
      guard let first, let peer = first.peer else { return [] }
      return remove(peer, for: first.key) ? [first.key] : []
    }
    return makeRoomForKeys(excess / 2, from: largest, for: host.prefix, now: now)
  }

  /// Has networks give up whole keys, first those that the largest alone has announced, then those of
  /// which the poorest network has most: whoever joins the keys of others has nothing of theirs go in
  /// place of his own. So many announcements at once, and once in a while only, for that looks at all
  /// there is.
  private mutating func makeRoomForKeys(
    _ max: Int, from largest: UInt64, for network: UInt64, now: Duration
  ) -> [[UInt8]] {
    guard now >= nextSharing else { return [] }
    nextSharing = now + Self.sharingInterval
    var ofLargest: [ExpiryOrder.Place] = []
    var ofOthers: [(poorest: Int, place: ExpiryOrder.Place)] = []
    for (key, known) in peers where isSpare(known, for: network) {
      let place = ExpiryOrder.Place(expiry: known.lastExpiry, key: key)
      if known.strangersByPrefix[largest] == known.count {
        ofLargest.append(place)
      } else {
        ofOthers.append((poorestNetwork(of: known), place))
      }
    }
    ofOthers.sort { ($1.poorest, $0.place) < ($0.poorest, $1.place) }
    var gone: [[UInt8]] = []
    var count = 0
    for place in ofLargest.sorted() + ofOthers.map(\.place) where count < max {
      // What has gone meanwhile counts.
      guard let known = peers[place.key], isSpare(known, for: network) else { continue }
      for (peer, _) in known.all where remove(peer, for: place.key) { count += 1 }
      gone.append(place.key)
    }
    return gone
  }

  /// Whether a key can be given up for one more announcement of that network: all that have announced it
  /// are strangers, and each of their networks has as much as that one even then. On loopback nobody
  /// crowds others out.
  private func isSpare(_ known: KeyAnnouncements, for network: UInt64) -> Bool {
    let counts = known.strangersByPrefix.all
    guard known.areStrangers, counts.values.reduce(0, +) == known.count else { return false }
    let own = countByPrefix.counts[network]
    return counts.allSatisfy { countByPrefix.counts[$0.key] - $0.value > own }
  }

  /// What the network has that has least of those that have announced a key; nothing where one is
  /// loopback, which crowds nobody out.
  private func poorestNetwork(of known: KeyAnnouncements) -> Int {
    var (poorest, count) = (Int.max, 0)
    for (network, own) in known.strangersByPrefix.all {
      poorest = min(poorest, countByPrefix.counts[network])
      count += own
    }
    return count == known.count ? poorest : 0
  }

  /// What makes room for an announcement of this node's own callers: strangers' of the key if that is
  /// full, a key that only strangers have announced if there are too many, or any of strangers'; that
  /// of the network which has most, and of its the one that would expire first.
  private mutating func displaceable(
    for key: [UInt8]
  ) -> (key: [UInt8], peers: [DHTAddress])? {
    if let known = peers[key], known.count >= configuration.peersPerKeyMax {
      return stranger(of: known).map { (key, [$0]) }
    }
    guard peers[key] == nil, peers.count >= configuration.keysMax else {
      guard let largest = countByPrefix.largest() else { return nil }
      let first = orderByPrefix[largest]?.first { [peers] in Self.stands($0, in: peers) }
      return first.flatMap { first in first.peer.map { (first.key, [$0]) } }
    }
    guard let key = strangerKey() else { return nil }
    return (key, peers[key]?.all.map(\.peer) ?? [])
  }

  /// The stranger among those of a key whose network has most.
  private func stranger(of known: KeyAnnouncements) -> DHTAddress? {
    known.all.filter { !$0.entry.isOwn }.map(\.peer).max { left, right in
      (countByPrefix.counts[left.host.prefix], left)
        < (countByPrefix.counts[right.host.prefix], right)
    }
  }

  /// Of the keys that only strangers have announced one of which the poorest network has most, so that a
  /// small one loses nothing for a large one that has joined it; of those the first to expire.
  private func strangerKey() -> [UInt8]? {
    guard strangerKeyCount > 0 else { return nil }
    var first: (poorest: Int, place: ExpiryOrder.Place)?
    for (key, known) in peers where known.areStrangers {
      let poorest = poorestNetwork(of: known)
      if let first, poorest < first.poorest { continue }
      let place = ExpiryOrder.Place(expiry: known.lastExpiry, key: key)
      if let first, poorest == first.poorest, first.place < place { continue }
      first = (poorest, place)
    }
    return first?.place.key
  }

  /// Forgets an announcement; returns whether there was one.
  mutating func remove(_ peer: DHTAddress, for key: [UInt8]) -> Bool {
    guard peers[key] != nil, let entry = change(key, { $0.remove(peer) }) else { return false }
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
    swept += removeExpired(now: now)
  }

  /// The keys of which something has expired that was looked for to make room, whether or not there was
  /// room then; each time once.
  mutating func takeSwept() -> [[UInt8]] {
    guard !swept.isEmpty else { return [] }
    defer { swept = [] }
    return swept
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
