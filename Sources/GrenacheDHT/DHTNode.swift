/// A node of the DHT (BEP 5, 32, 42, 43, 44, as Grenache uses them), without its socket, its clock and
/// its randomness.
///
/// The driver passes datagrams and the time in, takes actions out with `nextAction` until there is none,
/// and calls `timerFired` at `nextDeadline`. The same inputs give the same actions.
///
/// Keys are the raw bytes of service names, of any length, or info-hashes of 20 bytes.
package struct DHTNode: Sendable {
  package internal(set) var ids: DHTNodeIDs
  package internal(set) var configuration: DHTConfiguration
  package internal(set) var statistics = DHTStatistics()

  let cryptography: DHTCryptography
  var tables: RoutingTables
  var store: PeerStore
  var items: ItemStore
  var tokens: TokenIssuer
  var limiter: RateLimiter
  var roundTrips = RoundTripEstimator()
  var transactions: Transactions
  var external: [DHTFamily: ExternalAddress] = [:]
  /// The addresses of this host's network interfaces, as far as the driver has told.
  var interfaces: [DHTHost] = []

  var lookups: [UInt64: LookupState] = [:]
  /// Lookups under way by what they look for, so that callers of the same share one.
  var lookupByPurpose: [LookupPurpose: UInt64] = [:]
  var results = LookupCache()
  var deliveries: [UInt64: DeliveryState] = [:]
  var withdrawals: Withdrawals
  var tokenTables: TokenTables
  var verifying: Verifications
  /// Where contacts were that have gone silent: asked again when nobody else is known.
  var lost: [DHTAddress] = []
  var nextNumber: UInt64 = 1

  private var actions: [DHTAction] = []
  private var actionsTaken = 0
  var maintenance: Maintenance

  /// A node at `now`, a time since any fixed start.
  package init(
    ids: DHTNodeIDs, configuration: DHTConfiguration, now: Duration, cryptography: DHTCryptography,
    using generator: inout some RandomNumberGenerator
  ) {
    self.ids = ids
    self.configuration = configuration
    self.cryptography = cryptography
    tables = RoutingTables(ids, configuration)
    store = PeerStore(configuration)
    items = ItemStore(configuration)
    limiter = RateLimiter(configuration)
    tokens = TokenIssuer(
      interval: configuration.tokenSecretInterval, now: now, sha1: cryptography.sha1,
      using: &generator)
    transactions = Transactions(sha1: cryptography.sha1, using: &generator)
    withdrawals = Withdrawals(configuration)
    tokenTables = TokenTables(configuration)
    verifying = Verifications(configuration)
    maintenance = Maintenance(now: now)
    for host in configuration.publicHosts { bind(to: host, using: &generator) }
  }

  /// An identifier that does not fit an address that is known is of no use: before anybody knows it,
  /// it can be changed (BEP 42).
  private mutating func bind(
    to host: DHTHost, using generator: inout some RandomNumberGenerator
  ) {
    external[host.family] = ExternalAddress(configured: host)
    guard !ids[host.family].isAllowed(at: host) else { return }
    ids[host.family] = .bound(to: host, using: &generator)
    tables = RoutingTables(ids, configuration)
  }

  /// The same with one identifier for both networks.
  package init(
    id: NodeID, configuration: DHTConfiguration, now: Duration, cryptography: DHTCryptography,
    using generator: inout some RandomNumberGenerator
  ) {
    self.init(
      ids: DHTNodeIDs(ipv4: id, ipv6: id), configuration: configuration, now: now,
      cryptography: cryptography, using: &generator)
  }

  /// The identifier in the network of IPv4.
  package var id: NodeID { ids.ipv4 }
  /// The contacts in the routing tables.
  package var contacts: [DHTContact] { tables.contacts }
  package var contactCount: Int { tables.count }
  /// Announcements, keys and values in the stores.
  package var storedCount: Int { store.count }
  package var keyCount: Int { store.keyCount }
  package var itemCount: Int { items.count }
  /// Queries, lookups and deliveries under way.
  package var underWay: (queries: Int, lookups: Int, deliveries: Int) {
    (transactions.count, lookups.count, deliveries.count)
  }

  // MARK: Time

  /// When `timerFired` is to be called next.
  package var nextDeadline: Duration {
    // It changes nothing; but to be merely read, the node of a driver is copied for each datagram.
    mutating get {
      var next = maintenance.nextDeadline
      if let withdrawal = withdrawals.nextDeadline { next = min(next, withdrawal) }
      guard let query = transactions.nextDeadline else { return next }
      return min(next, query)
    }
  }

  /// Does what is due at `now`.
  package mutating func timerFired(now: Duration, using generator: inout some RandomNumberGenerator)
  {
    tokens.advance(to: now, using: &generator)
    let due = transactions.due(at: now)
    for query in due.late { queryLate(query, now: now) }
    for query in due.slow { querySlow(query, now: now) }
    for query in due.expired {
      statistics.timeouts += 1
      queryFailed(query, .timeout, now: now)
    }
    repeatWithdrawals(now: now)
    maintain(now: now, using: &generator)
  }

  // MARK: Actions

  /// The next thing to do, or `nil`.
  package mutating func nextAction() -> DHTAction? {
    guard actionsTaken < actions.count else {
      actions.removeAll(keepingCapacity: true)
      actionsTaken = 0
      return nil
    }
    defer { actionsTaken += 1 }
    return actions[actionsTaken]
  }

  mutating func perform(_ action: DHTAction) {
    actions.append(action)
  }

  mutating func takeNumber() -> UInt64 {
    defer { nextNumber += 1 }
    return nextNumber
  }

  /// Sends a query, unless too many are under way; returns whether it was sent.
  @discardableResult
  mutating func send(
    _ query: KRPCQuery, to address: DHTAddress, id: NodeID?, _ purpose: Transactions.Purpose,
    now: Duration
  ) -> Bool {
    let family = address.family
    guard transactions.count < configuration.outstandingMax,
      configuration.families.contains(family)
    else { return false }
    let roundTrip = tables.roundTrip(to: id, family)
    let transaction = transactions.begin(
      Transactions.Query(
        address, id: id, purpose, sentAt: now,
        late: roundTrips.lateAfter(known: roundTrip, configuration),
        slow: roundTrips.slowAfter(known: roundTrip, configuration),
        timeout: configuration.queryTimeout))
    statistics.queriesSent += 1
    let message = query.encoded(
      transaction: transaction, from: ids[family], isReadOnly: configuration.isReadOnly,
      wanted: configuration.families.count > 1 ? configuration.families : nil)
    perform(.send(message, to: address))
    return true
  }
}
