/// What a node does from time to time, and when next.
struct Maintenance: Sendable {
  /// How often silent contacts are looked for and what has expired is dropped.
  static let interval = Duration.seconds(15)
  /// How often the neighbourhood is searched anew, bootstrap nodes included: two parts of a network
  /// that were apart find together by that. At first more often: neighbours that join at the same time
  /// do not find each other.
  static let neighbourhoodPauseMin = Duration.seconds(5)
  static let neighbourhoodPauseMax = Duration.seconds(300)
  /// How often a bucket is filled that never was.
  static let fillInterval = Duration.milliseconds(500)
  /// The pauses between attempts to reach anybody at all.
  static let bootstrapPauseMin = Duration.seconds(1)
  static let bootstrapPauseMax = Duration.seconds(30)
  /// Pings, refreshed buckets and values put again in one go.
  static let pingsMax = 16
  static let refreshesMax = 2
  static let republishedMax = 8

  var next: Duration
  var nextBootstrap: Duration?
  var bootstrapPause = bootstrapPauseMin
  var nextFill: Duration
  var nextNeighbourhood: Duration
  var neighbourhoodPause = neighbourhoodPauseMin
  /// When somebody's doubts about the own identifier are heeded next.
  private var nextDoubt = Duration.zero

  init(now: Duration) {
    next = now + Self.interval
    nextBootstrap = now
    nextFill = now + Self.fillInterval
    nextNeighbourhood = now + Self.neighbourhoodPauseMin
  }

  var nextDeadline: Duration {
    min(next, nextFill, nextNeighbourhood, nextBootstrap ?? next)
  }

  /// The node is somebody else now: its neighbours are to be found as at first.
  mutating func beginAnew(now: Duration) {
    neighbourhoodPause = Self.neighbourhoodPauseMin
    nextNeighbourhood = now + neighbourhoodPause
  }

  /// Whether the neighbourhood is to be searched now because the own identifier is in doubt; anybody can
  /// raise doubts, so the next search waits a while.
  mutating func takesDoubt(now: Duration) -> Bool {
    guard now >= nextDoubt else {
      nextNeighbourhood = min(nextNeighbourhood, nextDoubt)
      return false
    }
    nextDoubt = now + Self.neighbourhoodPauseMin
    return true
  }
}

/// Maintenance of a node (BEP 5: routing table; BEP 44: expiration).
extension DHTNode {
  mutating func maintain(now: Duration, using generator: inout some RandomNumberGenerator) {
    if let bootstrap = maintenance.nextBootstrap, now >= bootstrap { self.bootstrap(now: now) }
    if now >= maintenance.nextNeighbourhood {
      maintenance.neighbourhoodPause = min(
        maintenance.neighbourhoodPause * 2, Maintenance.neighbourhoodPauseMax)
      maintenance.nextNeighbourhood = now + maintenance.neighbourhoodPause
      if tables.count > 0 { searchNeighbourhood(now: now) }
    }
    if now >= maintenance.nextFill { fillBuckets(now: now, using: &generator) }
    guard now >= maintenance.next else { return }
    maintenance.next = now + Maintenance.interval
    for key in store.removeExpired(now: now) { perform(.peersChanged(key: key)) }
    removed(items.removeExpired(now: now))
    tokenTables.removeExpired(now: now)
    results.removeExpired(now: now)
    republish(now: now)
    for family in DHTFamily.allCases where configuration.families.contains(family) {
      askSilent(family, now: now)
      refreshBuckets(family, now: now, using: &generator)
    }
    if tables.count == 0, maintenance.nextBootstrap == nil {
      maintenance.bootstrapPause = Maintenance.bootstrapPauseMin
      maintenance.nextBootstrap = now
    }
  }

  /// Begins with these nodes from now on; at once, if nobody is known.
  package mutating func setBootstrap(_ addresses: [DHTAddress], now: Duration) {
    guard Set(addresses) != Set(configuration.bootstrap) else { return }
    configuration.bootstrap = addresses
    guard tables.count == 0 else { return }
    maintenance.bootstrapPause = Maintenance.bootstrapPauseMin
    maintenance.nextBootstrap = now
  }

  /// Looks for the own neighbourhood, beginning at the bootstrap nodes and at those that were known
  /// once; again, with growing pauses, for as long as nobody is known.
  private mutating func bootstrap(now: Duration) {
    maintenance.nextBootstrap = nil
    guard tables.count == 0, !configuration.bootstrap.isEmpty || !lost.isEmpty else { return }
    maintenance.nextBootstrap = now + maintenance.bootstrapPause
    maintenance.bootstrapPause = min(
      maintenance.bootstrapPause * 2, Maintenance.bootstrapPauseMax)
    searchNeighbourhood(now: now)
  }

  mutating func searchNeighbourhood(now: Duration) {
    for family in DHTFamily.allCases where configuration.families.contains(family) {
      let lookup = makeLookup(
        .nodes(ids[family]), [family], bootstrap: configuration.bootstrap + lost)
      advance(lookup, now: now)
    }
  }

  /// Asks contacts that have been silent whether they live.
  private mutating func askSilent(_ family: DHTFamily, now: Duration) {
    guard now > configuration.nodeLiveness else { return }
    let since = now - configuration.nodeLiveness
    for contact in tables[family].silent(since: since, max: Maintenance.pingsMax) {
      send(.ping, to: contact.address, id: contact.id, .ping, now: now)
    }
  }

  private mutating func refreshBuckets(
    _ family: DHTFamily, now: Duration, using generator: inout some RandomNumberGenerator
  ) {
    guard now > configuration.bucketRefresh else { return }
    for _ in 0..<Maintenance.refreshesMax {
      let point = tables[family].pointToRefresh(
        since: now - configuration.bucketRefresh, now: now, using: &generator)
      guard let point else { return }
      advance(makeLookup(.nodes(point), [family], bootstrap: []), now: now)
    }
  }

  private mutating func fillBuckets(
    now: Duration, using generator: inout some RandomNumberGenerator
  ) {
    maintenance.nextFill = now + Maintenance.interval
    for family in DHTFamily.allCases where configuration.families.contains(family) {
      guard let point = tables[family].pointToFill(using: &generator) else { continue }
      maintenance.nextFill = now + Maintenance.fillInterval
      advance(makeLookup(.filling(point), [family], bootstrap: []), now: now)
    }
  }

  private mutating func republish(now: Duration) {
    guard tables.count > 0 else { return }
    for item in items.due(at: now, max: Maintenance.republishedMax) {
      _ = deliver(.put(item, compareAndSwap: nil), to: item.target(cryptography), now: now)
    }
  }

  /// Remembers where a contact was that has gone silent.
  mutating func lose(_ contact: DHTContact) {
    guard !lost.contains(contact.address) else { return }
    lost.append(contact.address)
    if lost.count > configuration.bucketSize { lost.removeFirst() }
  }
}
