/// The values that a node keeps (BEP 44), by their targets; bounded, the oldest make room.
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
  private var countByHost = CountByOwner<DHTHost>()
  private var countByCaller = CountByOwner<DHTCaller>()
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
    if let owner, known?.owner != owner, countByHost[owner] >= configuration.itemsPerAddressMax {
      throw .addressLimit
    }
    var evicted: [[UInt8]] = []
    if let caller, known?.caller == nil, countByCaller[caller] >= configuration.itemsPerCallerMax {
      evicted += evictFirst { $0.caller == caller }
    }
    if entries[target] == nil, entries.count >= configuration.itemsMax {
      evicted += evict(now: now)
    }
    remove(target)
    var end = expiry ?? now + configuration.itemAgeMax
    // Whoever puts again what is kept alive here does not end that.
    if let known, known.republishAt != nil { end = max(end, known.expiry) }
    entries[target] = Entry(
      item: item, owner: known.map(\.owner) ?? owner, caller: known?.caller ?? caller, expiry: end,
      republishAt: known?.republishAt)
    countByHost.add(entries[target]?.owner)
    countByCaller.add(entries[target]?.caller)
    return evicted
  }

  /// Has an item put again from now on, as long as this node lives.
  mutating func keepAlive(_ target: [UInt8], now: Duration) {
    let own = entries.values.count { $0.republishAt != nil }
    guard own < configuration.ownItemsMax || entries[target]?.republishAt != nil else { return }
    entries[target]?.republishAt = now + configuration.republishInterval
    entries[target]?.expiry = .seconds(Int64.max / 4)
  }

  /// The items that are to be put again now; the next time is noted.
  mutating func due(at now: Duration, max: Int) -> [DHTItem] {
    var due: [(time: Duration, target: [UInt8])] = []
    for (target, entry) in entries {
      if let time = entry.republishAt, time <= now { due.append((time, target)) }
    }
    due.sort { Self.precedes(($0.time, $0.target), ($1.time, $1.target)) }
    return due.prefix(max).compactMap { one in
      entries[one.target]?.republishAt = now + configuration.republishInterval
      return entries[one.target]?.item
    }
  }

  mutating func removeExpired(now: Duration) -> [[UInt8]] {
    let expired = entries.filter { $0.value.expiry <= now }.map(\.key)
    for target in expired { remove(target) }
    return expired
  }

  var all: [(target: [UInt8], entry: Entry)] { entries.map { ($0.key, $0.value) } }

  mutating func remove(_ target: [UInt8]) {
    guard let entry = entries.removeValue(forKey: target) else { return }
    countByHost.remove(entry.owner)
    countByCaller.remove(entry.caller)
  }

  /// Makes room: of whoever has most, the one that would expire first goes; this node's own last.
  private mutating func evict(now: Duration) -> [[UInt8]] {
    let expired = removeExpired(now: now)
    guard expired.isEmpty else { return expired }
    let largest = countByHost.all.max {
      ($0.value, $0.key.high, $0.key.low) < ($1.value, $1.key.high, $1.key.low)
    }?.key
    return evictFirst { largest == nil || $0.owner == largest }
  }

  /// Removes, of those entries, the one that would expire first.
  private mutating func evictFirst(where isEligible: (Entry) -> Bool) -> [[UInt8]] {
    let first = entries.filter { isEligible($0.value) }.min {
      Self.precedes(($0.value.expiry, $0.key), ($1.value.expiry, $1.key))
    }
    guard let first else { return [] }
    remove(first.key)
    return [first.key]
  }

  /// An order that does not depend on hashing, so that a seed replays a simulation.
  private static func precedes(_ left: (Duration, [UInt8]), _ right: (Duration, [UInt8])) -> Bool {
    left.0 == right.0 ? left.1.lexicographicallyPrecedes(right.1) : left.0 < right.0
  }
}

extension DHTHost {
  /// Whom things are counted for: an address, or a /48 of IPv6, which one party easily has.
  package var owner: DHTHost {
    family == .ipv4 ? self : DHTHost(high: high & ~0xffff, low: 0)
  }
}
