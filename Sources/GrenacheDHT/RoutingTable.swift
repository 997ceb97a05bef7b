/// The contacts that a node knows, in buckets by the length of the prefix that they share with it
/// (BEP 5, after Kademlia).
///
/// Only nodes that have answered a query of ours enter: their address is theirs. A contact is good while
/// it is heard of, questionable after a silence, and bad when it has left queries unanswered. A full
/// bucket keeps the contacts that it has, for they have proven to stay; a newcomer waits among the
/// replacements while a questionable one is asked whether it lives.
struct RoutingTable: Sendable {
  struct Entry: Sendable {
    var contact: DHTContact
    /// When it last answered or asked something.
    var lastSeen: Duration
    /// Smoothed, in microseconds, and how it varies (RFC 6298 §2).
    var roundTrip: UInt32
    var variation: UInt32
    /// Queries in a row without an answer.
    var failures: UInt8 = 0
    /// The second in which it last answered: unlike what it asks, that cannot be forged.
    var answeredAt: UInt32

    init(_ contact: DHTContact, lastSeen: Duration, sample: UInt32) {
      self.contact = contact
      self.lastSeen = lastSeen
      roundTrip = sample
      variation = sample / 2
      answeredAt = lastSeen.clampedSeconds
    }

    mutating func note(_ sample: UInt32) {
      let difference = sample > roundTrip ? sample - roundTrip : roundTrip - sample
      variation = variation / 4 * 3 + difference / 4
      roundTrip = roundTrip / 8 * 7 + sample / 8
    }
  }
  private struct Bucket: Sendable {
    var entries: [Entry] = []
    var replacements: [DHTContact] = []
    var lastChange: Duration
    /// Whether it has been filled: a node that joins finds its neighbours, and hardly anybody else.
    var hasBeenFilled = false
  }

  /// What is to be done about a stranger.
  enum Admission: Hashable, Sendable {
    /// It is known, or there is no place for it.
    case unwanted
    /// There is a place if it answers.
    case wanted
    /// There is a place if that contact does not answer.
    case afterAsking(DHTContact)
  }

  /// So many queries in a row without an answer make a contact bad.
  static let failuresMax: UInt8 = 2
  /// A contact that has answered so many seconds ago is not asked whether it lives because somebody
  /// elsewhere bears its identifier.
  static let checkPauseSeconds: UInt32 = 15

  private let own: NodeID
  private let configuration: DHTConfiguration
  private var buckets: [Bucket] = []
  private(set) var count = 0

  init(own: NodeID, _ configuration: DHTConfiguration) {
    self.own = own
    self.configuration = configuration
  }

  private func bucketIndex(_ id: NodeID) -> Int { own.distance(to: id).leadingZeroBitCount }

  private func place(of id: NodeID) -> (bucket: Int, entry: Int)? {
    let index = bucketIndex(id)
    guard index < buckets.count else { return nil }
    for entry in buckets[index].entries.indices
    where buckets[index].entries[entry].contact.id == id {
      return (index, entry)
    }
    return nil
  }

  func contains(_ contact: DHTContact) -> Bool {
    guard let place = place(of: contact.id) else { return false }
    return buckets[place.bucket].entries[place.entry].contact.address == contact.address
  }

  /// Whether the bucket of a point has no place left.
  func isBucketFull(at point: NodeID) -> Bool {
    let index = bucketIndex(point)
    return index < buckets.count && buckets[index].entries.count >= configuration.bucketSize
  }

  /// The smoothed round trip to a contact, if it is known.
  func roundTrip(to id: NodeID) -> RoundTrip? {
    place(of: id).map {
      let entry = buckets[$0.bucket].entries[$0.entry]
      return RoundTrip(
        smoothed: .microseconds(Int64(entry.roundTrip)),
        variation: .microseconds(Int64(entry.variation)))
    }
  }

  /// Whether a stranger that has been heard of could enter.
  mutating func admission(of contact: DHTContact, now: Duration) -> Admission {
    guard contact.id != own, configuration.accepts(contact) else { return .unwanted }
    if let (index, entry) = place(of: contact.id) {
      return admission(of: contact, inPlaceOf: buckets[index].entries[entry], in: index, now: now)
    }
    let index = bucketIndex(contact.id)
    guard index < buckets.count else { return .wanted }
    guard hasRoom(for: contact.address.host, in: index) else { return .unwanted }
    let entries = buckets[index].entries
    if entries.count < configuration.bucketSize { return .wanted }
    var questionable: Entry?
    for entry in entries
    where entry.failures > 0 || now - entry.lastSeen > configuration.nodeLiveness {
      if let found = questionable, found.lastSeen <= entry.lastSeen { continue }
      questionable = entry
    }
    guard let questionable else { return .unwanted }
    remember(contact, in: index)
    return .afterAsking(questionable.contact)
  }

  /// Somebody bears an identifier that is known from elsewhere: a node that was started anew, or a thief.
  /// Whoever is where it was known has the first word, and as long as it is not bad, the last.
  private mutating func admission(
    of contact: DHTContact, inPlaceOf known: Entry, in index: Int, now: Duration
  ) -> Admission {
    if known.contact.address == contact.address { return .unwanted }
    let silence = now.clampedSeconds.subtractingReportingOverflow(known.answeredAt)
    if known.failures == 0, !silence.overflow, silence.partialValue < Self.checkPauseSeconds {
      return .unwanted
    }
    remember(contact, in: index)
    return .afterAsking(known.contact)
  }

  private func hasRoom(for host: DHTHost, in bucket: Int) -> Bool {
    guard configuration.limitsPrefix(of: host) else { return true }
    let prefix = host.prefix
    var count = 0
    for entry in buckets[bucket].entries where entry.contact.address.host.prefix == prefix {
      count += 1
    }
    return count < configuration.nodesPerPrefixMax
  }

  private mutating func remember(_ contact: DHTContact, in index: Int) {
    guard !buckets[index].replacements.contains(contact) else { return }
    buckets[index].replacements.append(contact)
    if buckets[index].replacements.count > configuration.bucketSize {
      buckets[index].replacements.removeFirst()
    }
  }

  /// A contact has asked something.
  mutating func asked(_ contact: DHTContact, now: Duration) {
    guard let place = place(of: contact.id),
      buckets[place.bucket].entries[place.entry].contact.address == contact.address
    else { return }
    buckets[place.bucket].entries[place.entry].lastSeen = now
  }

  /// A contact has answered.
  mutating func answered(_ contact: DHTContact, roundTrip: Duration, now: Duration) {
    guard contact.id != own, configuration.accepts(contact) else { return }
    let sample = UInt32(clamping: roundTrip.wholeMicroseconds)
    if let (index, known) = place(of: contact.id) {
      var entry = buckets[index].entries[known]
      // The same identifier elsewhere: the one we know stays until it is bad.
      guard entry.contact.address == contact.address else { return remember(contact, in: index) }
      entry.note(sample)
      entry.lastSeen = now
      entry.answeredAt = now.clampedSeconds
      entry.failures = 0
      buckets[index].entries[known] = entry
      return
    }
    insert(Entry(contact, lastSeen: now, sample: sample), now: now)
  }

  /// Adds a contact that is not known, if there is room.
  private mutating func insert(_ entry: Entry, now: Duration) {
    let contact = entry.contact
    let index = bucketIndex(contact.id)
    while buckets.count <= index { buckets.append(Bucket(lastChange: now)) }
    guard hasRoom(for: contact.address.host, in: index) else { return }
    guard buckets[index].entries.count < configuration.bucketSize else {
      return remember(contact, in: index)
    }
    buckets[index].entries.append(entry)
    buckets[index].lastChange = now
    count += 1
  }

  /// The same contacts, and what is known of each, as a node of another identifier has them.
  func rebased(on own: NodeID, now: Duration) -> RoutingTable {
    var table = RoutingTable(own: own, configuration)
    for bucket in buckets {
      for entry in bucket.entries where entry.contact.id != own { table.insert(entry, now: now) }
    }
    return table
  }

  /// A contact has not answered; a bad one makes room. Returns a replacement that is to be asked.
  mutating func failed(_ contact: DHTContact, now: Duration) -> DHTContact? {
    guard let (index, known) = place(of: contact.id),
      buckets[index].entries[known].contact == contact
    else { return nil }
    buckets[index].entries[known].failures += 1
    guard buckets[index].entries[known].failures >= Self.failuresMax else { return nil }
    return remove(index, known, now: now)
  }

  /// Somebody else is at a contact's address. Returns a replacement that is to be asked.
  mutating func replaced(_ contact: DHTContact, now: Duration) -> DHTContact? {
    guard let (index, known) = place(of: contact.id),
      buckets[index].entries[known].contact == contact
    else { return nil }
    return remove(index, known, now: now)
  }

  private mutating func remove(_ index: Int, _ entry: Int, now: Duration) -> DHTContact? {
    buckets[index].entries.remove(at: entry)
    buckets[index].lastChange = now
    count -= 1
    return buckets[index].replacements.popLast()
  }

  // MARK: What it holds

  /// The `max` contacts nearest to `target`, the nearest first.
  ///
  /// Those of the target's own bucket are nearest, then those of all buckets behind it, and then the
  /// buckets before it, one after the other: only what is needed is sorted.
  func closest(to target: NodeID, max: Int) -> [DHTContact] {
    var result: [DHTContact] = []
    result.reserveCapacity(min(max, count))
    var found: [Found] = []
    let middle = min(bucketIndex(target), buckets.count)
    if middle < buckets.count { append(middle..<(middle + 1), target, max, to: &result, &found) }
    if middle + 1 < buckets.count {
      append((middle + 1)..<buckets.count, target, max, to: &result, &found)
    }
    var index = middle
    while index > 0, result.count < max {
      index -= 1
      append(index..<(index + 1), target, max, to: &result, &found)
    }
    return result
  }

  /// Where a contact stands, and how far from a target it is: less to sort than the contact itself.
  private struct Found {
    let distance: NodeID
    let bucket: UInt16
    let entry: UInt16
  }

  private func append(
    _ range: Range<Int>, _ target: NodeID, _ max: Int, to result: inout [DHTContact],
    _ found: inout [Found]
  ) {
    guard result.count < max else { return }
    found.removeAll(keepingCapacity: true)
    for bucket in range {
      for entry in buckets[bucket].entries.indices {
        let id = buckets[bucket].entries[entry].contact.id
        found.append(
          Found(
            distance: target.distance(to: id), bucket: UInt16(truncatingIfNeeded: bucket),
            entry: UInt16(truncatingIfNeeded: entry)))
      }
    }
    found.sort { $0.distance < $1.distance }
    for one in found.prefix(max - result.count) {
      result.append(buckets[Int(one.bucket)].entries[Int(one.entry)].contact)
    }
  }

  /// Every contact, those that share more with the node last.
  var contacts: [DHTContact] { buckets.flatMap { $0.entries.map(\.contact) } }

  /// Whether contacts on public addresses of fewer networks than that are known.
  func hasFewerNetworks(than count: Int) -> Bool {
    var networks: Set<UInt64> = []
    for bucket in buckets {
      for entry in bucket.entries where !entry.contact.address.host.isLocal {
        networks.insert(entry.contact.address.host.prefix)
        if networks.count >= count { return false }
      }
    }
    return networks.count < count
  }

  /// Contacts that have been silent since `time`, the longest silent first.
  func silent(since time: Duration, max: Int) -> [DHTContact] {
    var silent: [Entry] = []
    for bucket in buckets { silent += bucket.entries.filter { $0.lastSeen < time } }
    return silent.sorted { ($0.lastSeen, $0.contact.id) < ($1.lastSeen, $1.contact.id) }
      .prefix(max).map(\.contact)
  }

  /// A point in a bucket that has not changed since `time`; the bucket counts as changed from now on.
  mutating func pointToRefresh(
    since time: Duration, now: Duration, using generator: inout some RandomNumberGenerator
  ) -> NodeID? {
    guard let index = buckets.firstIndex(where: { $0.lastChange < time }) else { return nil }
    buckets[index].lastChange = now
    return own.sharing(index, using: &generator)
  }

  /// A point in a bucket that has room and was never filled (Kademlia §2.3: a node that joins refreshes
  /// the buckets behind its closest neighbour); it counts as filled from now on.
  ///
  /// In a network that fits into one bucket everybody is known anyhow, and of the last buckets there is
  /// nobody to find.
  mutating func pointToFill(using generator: inout some RandomNumberGenerator) -> NodeID? {
    guard count >= configuration.bucketSize else { return nil }
    for index in buckets.indices.dropLast(3) where !buckets[index].hasBeenFilled {
      buckets[index].hasBeenFilled = true
      if buckets[index].entries.count < configuration.bucketSize {
        return own.sharing(index, using: &generator)
      }
    }
    return nil
  }

  /// Its buckets hold as many as they are going to.
  mutating func noteFilled() {
    for index in buckets.indices { buckets[index].hasBeenFilled = true }
  }
}

/// The routing tables of both networks (BEP 32).
struct RoutingTables: Sendable {
  private var ipv4: RoutingTable
  private var ipv6: RoutingTable

  init(_ ids: DHTNodeIDs, _ configuration: DHTConfiguration) {
    ipv4 = RoutingTable(own: ids.ipv4, configuration)
    ipv6 = RoutingTable(own: ids.ipv6, configuration)
  }

  subscript(family: DHTFamily) -> RoutingTable {
    _read { if family == .ipv4 { yield ipv4 } else { yield ipv6 } }
    _modify { if family == .ipv4 { yield &ipv4 } else { yield &ipv6 } }
  }

  func roundTrip(to id: NodeID?, _ family: DHTFamily) -> RoundTrip? {
    guard let id else { return nil }
    switch family {
    case .ipv4: return ipv4.roundTrip(to: id)
    case .ipv6: return ipv6.roundTrip(to: id)
    }
  }

  var count: Int { ipv4.count + ipv6.count }
  var contacts: [DHTContact] { ipv4.contacts + ipv6.contacts }
}

/// What a node is called in each network: BEP 42 binds identifiers to addresses.
package struct DHTNodeIDs: Hashable, Sendable {
  package var ipv4: NodeID
  package var ipv6: NodeID

  package init(ipv4: NodeID, ipv6: NodeID) {
    self.ipv4 = ipv4
    self.ipv6 = ipv6
  }

  package subscript(family: DHTFamily) -> NodeID {
    get { family == .ipv4 ? ipv4 : ipv6 }
    set { if family == .ipv4 { ipv4 = newValue } else { ipv6 = newValue } }
  }
}
