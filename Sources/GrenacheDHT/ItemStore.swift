/// The values that a node keeps (BEP 44), by their targets; bounded, the oldest make room, which takes no
/// longer with many than with few.
struct ItemStore: Sendable {
  struct Entry: Sendable {
    var item: DHTItem
    /// Whose it is, for the limit of an address; `nil` for this node's own callers.
    var owner: DHTHost?
    /// Which of those callers, if they are counted.
    var caller: DHTCaller?
    var expiry: Duration
    /// When it is to be put again; `nil` for what others see to.
    var republishAt: Duration?
  }

  private var entries: [[UInt8]: Entry] = [:]
  private var countByPrefix = LargestOwner<UInt64>()
  private var hostsByPrefix: [UInt64: LargestOwner<DHTHost>] = [:]
  private var countByCaller = CountByOwner<DHTCaller>()
  /// All of them, and those of each host and caller that has any, as they expire.
  private var order = ExpiryOrder()
  private var orderByHost: [DHTHost: ExpiryOrder] = [:]
  private var orderByCaller: [DHTCaller: ExpiryOrder] = [:]
  /// Those that are put again, and for whom; who is not counted is one of them.
  private var keptByCaller = LargestOwner<DHTCaller>()
  private var keptOrderByCaller: [DHTCaller: ExpiryOrder] = [:]
  private var keptCount = 0
  private let configuration: DHTConfiguration

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  var count: Int { entries.count }

  subscript(target: [UInt8]) -> Entry? { entries[target] }

  /// Keeps a valid item, or says what is wrong with it.
  ///
  /// - Parameter compareAndSwap: the sequence number that is expected to be stored.
  /// - Returns: the targets of the items that have made room.
  mutating func insert(
    _ item: DHTItem, at target: [UInt8], owner: DHTHost?, by caller: DHTCaller? = nil,
    compareAndSwap: Int64?, now: Duration, until expiry: Duration? = nil
  ) throws(KRPCErrorCode) -> [[UInt8]] {
    let known = entries[target].flatMap { $0.expiry > now ? $0 : nil }
    if let new = item.signature, let old = known?.item.signature {
      if let compareAndSwap, compareAndSwap != old.sequence { throw .casMismatch }
      // The same once more is how an item is kept alive; anything else has to be newer.
      guard new.sequence > old.sequence || item == known?.item else { throw .sequenceTooLow }
    }
    let owner = owner.flatMap { $0.isLoopback ? nil : $0.owner }
    if let owner, known?.owner != owner, hasMost(owner) { throw .addressLimit }
    var evicted: [[UInt8]] = []
    if let caller, known?.caller == nil, countByCaller[caller] >= configuration.itemsPerCallerMax {
      evicted += evictFirst(of: caller)
    }
    if entries[target] == nil, entries.count >= configuration.itemsMax {
      evicted += evict(now: now)
    }
    remove(target)
    var end = expiry ?? now + configuration.itemAgeMax
    // Whoever puts again what is kept alive here does not end that.
    if let known, known.republishAt != nil { end = max(end, known.expiry) }
    add(
      Entry(
        item: item, owner: known.map(\.owner) ?? owner, caller: known?.caller ?? caller,
        expiry: end, republishAt: known?.republishAt), at: target)
    return evicted
  }

  private func count(of owner: DHTHost) -> Int {
    hostsByPrefix[owner.prefix]?.counts[owner] ?? 0
  }

  private func hasMost(_ owner: DHTHost) -> Bool {
    count(of: owner) >= configuration.itemsPerAddressMax
      || configuration.limitsPrefix(of: owner)
        && countByPrefix.counts[owner.prefix] >= configuration.itemsPerPrefixMax
  }

  // MARK: Keeping alive

  /// Has an item put again from now on, unless this node ends before.
  ///
  /// - Parameters:
  ///   - age: for how long; by default as long as an item is that is put now.
  ///   - pause: when for the first time.
  /// - Returns: the targets of items that are not put again any more: when a caller has as many as it may,
  ///   or there are as many as there may be, the oldest yields, of that caller or of the one with most.
  mutating func keepAlive(
    _ target: [UInt8], now: Duration, for age: Duration? = nil, dueIn pause: Duration? = nil
  ) -> [[UInt8]] {
    guard var entry = entries[target] else { return [] }
    let yielded = entry.republishAt == nil ? makeRoom(forKept: entry.caller, now: now) : []
    entry.republishAt = now + (pause ?? configuration.republishInterval)
    entry.expiry = now + min(age ?? configuration.ownItemAgeMax, configuration.ownItemAgeMax)
    remove(target)
    add(entry, at: target)
    return yielded
  }

  private mutating func makeRoom(forKept caller: DHTCaller?, now: Duration) -> [[UInt8]] {
    let oldest: ExpiryOrder.Place?
    if let caller, keptByCaller.counts[caller] >= configuration.ownItemsPerCallerMax {
      oldest = oldestKept(of: caller)
    } else if keptCount >= configuration.ownItemsMax, let largest = keptByCaller.largest() {
      oldest = oldestKept(of: largest)
    } else {
      return []
    }
    guard let oldest, var entry = entries[oldest.key] else { return [] }
    entry.republishAt = nil
    entry.expiry = min(entry.expiry, now + configuration.itemAgeMax)
    remove(oldest.key)
    add(entry, at: oldest.key)
    return [oldest.key]
  }

  /// All are kept alive for the same time: the one that expires first was put first.
  private mutating func oldestKept(of caller: DHTCaller) -> ExpiryOrder.Place? {
    keptOrderByCaller[caller]?.first { [entries] in
      Self.stands($0, in: entries) { Self.keeper(of: $0) == caller }
    }
  }

  /// For whom an entry is kept alive, if it is.
  private static func keeper(of entry: Entry) -> DHTCaller? {
    entry.republishAt == nil ? nil : entry.caller ?? .uncounted
  }

  /// The items that are to be put again now; the next time is noted.
  mutating func due(at now: Duration, max: Int) -> [DHTItem] {
    var due: [(time: Duration, target: [UInt8])] = []
    for (target, entry) in entries {
      if let time = entry.republishAt, time <= now { due.append((time, target)) }
    }
    due.sort { left, right in
      left.time == right.time
        ? left.target.lexicographicallyPrecedes(right.target) : left.time < right.time
    }
    return due.prefix(max).compactMap { one in
      entries[one.target]?.republishAt = now + configuration.republishInterval
      return entries[one.target]?.item
    }
  }

  mutating func removeExpired(now: Duration) -> [[UInt8]] {
    var expired: [[UInt8]] = []
    while let first = first(), first.expiry <= now {
      remove(first.key)
      expired.append(first.key)
    }
    return expired
  }

  var all: [(target: [UInt8], entry: Entry)] { entries.map { ($0.key, $0.value) } }

  mutating func remove(_ target: [UInt8]) {
    guard let entry = entries.removeValue(forKey: target) else { return }
    if let owner = entry.owner {
      countByPrefix.remove(owner.prefix)
      hostsByPrefix[owner.prefix]?.remove(owner)
      if count(of: owner) == 0 { orderByHost[owner] = nil }
      if countByPrefix.counts[owner.prefix] == 0 { hostsByPrefix[owner.prefix] = nil }
    }
    if let keeper = Self.keeper(of: entry) {
      keptCount -= 1
      keptByCaller.remove(keeper)
      if keptByCaller.counts[keeper] == 0 { keptOrderByCaller[keeper] = nil }
    }
    countByCaller.remove(entry.caller)
    if let caller = entry.caller, countByCaller[caller] == 0 { orderByCaller[caller] = nil }
  }

  private mutating func add(_ entry: Entry, at target: [UInt8]) {
    entries[target] = entry
    countByCaller.add(entry.caller)
    let place = ExpiryOrder.Place(expiry: entry.expiry, key: target)
    order.add(place, among: entries.count) { [entries] in Self.stands($0, in: entries) }
    if let owner = entry.owner {
      countByPrefix.add(owner.prefix)
      hostsByPrefix[owner.prefix, default: LargestOwner()].add(owner)
      let count = count(of: owner)
      orderByHost[owner, default: ExpiryOrder()].add(place, among: count) { [entries] in
        Self.stands($0, in: entries) { $0.owner == owner }
      }
    }
    if let caller = entry.caller {
      let count = countByCaller[caller]
      orderByCaller[caller, default: ExpiryOrder()].add(place, among: count) { [entries] in
        Self.stands($0, in: entries) { $0.caller == caller }
      }
    }
    if let keeper = Self.keeper(of: entry) {
      keptCount += 1
      keptByCaller.add(keeper)
      let count = keptByCaller.counts[keeper]
      keptOrderByCaller[keeper, default: ExpiryOrder()].add(place, among: count) { [entries] in
        Self.stands($0, in: entries) { Self.keeper(of: $0) == keeper }
      }
    }
  }

  // MARK: Making room

  /// Of the network that has most, and there of the host that has most, the one that would expire first goes; this node's own last.
  private mutating func evict(now: Duration) -> [[UInt8]] {
    let expired = removeExpired(now: now)
    guard expired.isEmpty else { return expired }
    guard let network = countByPrefix.largest(),
      let largest = hostsByPrefix[network]?.largest()
    else { return evict(first()) }
    return evict(
      orderByHost[largest]?.first { [entries] in
        Self.stands($0, in: entries) { $0.owner == largest }
      })
  }

  private mutating func evictFirst(of caller: DHTCaller) -> [[UInt8]] {
    evict(
      orderByCaller[caller]?.first { [entries] in
        Self.stands($0, in: entries) { $0.caller == caller }
      })
  }

  private mutating func evict(_ place: ExpiryOrder.Place?) -> [[UInt8]] {
    guard let place else { return [] }
    remove(place.key)
    return [place.key]
  }

  /// The one that expires first.
  private mutating func first() -> ExpiryOrder.Place? {
    order.first { [entries] in Self.stands($0, in: entries) }
  }

  /// Whether a value is at that place, and is one of those.
  private static func stands(
    _ place: ExpiryOrder.Place, in entries: [[UInt8]: Entry],
    _ isOne: (Entry) -> Bool = { _ in true }
  ) -> Bool {
    guard let entry = entries[place.key], entry.expiry == place.expiry else { return false }
    return isOne(entry)
  }
}

extension DHTHost {
  /// Whom things are counted for: an address, or a /48 of IPv6, which one party easily has.
  package var owner: DHTHost {
    family == .ipv4 ? self : DHTHost(high: high & ~0xffff, low: 0)
  }
}

extension DHTCaller {
  /// All those together who are not counted.
  fileprivate static let uncounted = DHTCaller([])
}
