/// A node of the DHT (BEP 5, as Grenache uses it), without its socket, its clock and its randomness.
///
/// The driver passes datagrams and the time in, takes actions out with `nextAction` until there is none,
/// and calls `timerFired` at `nextDeadline`. The same inputs give the same actions.
///
/// Keys are the raw bytes of service names, of any length, or info-hashes of 20 bytes.
package struct DHTNode: Sendable {
  package let id: NodeID
  package let configuration: DHTConfiguration
  package internal(set) var statistics = DHTStatistics()

  var table: RoutingTable
  var store: PeerStore
  var tokens: TokenIssuer
  var transactions = Transactions()
  var lookups: [UInt64: LookupState] = [:]
  var announces: [UInt64: AnnounceState] = [:]
  /// Lookups of peers under way by key, so that callers of the same key share one.
  var lookupByKey: [[UInt8]: UInt64] = [:]
  var tokenTables: [[UInt8]: TokenTable] = [:]
  var verifying: Set<DHTAddress> = []
  var nextNumber: UInt64 = 1

  private var actions: [DHTAction] = []
  private var actionsTaken = 0
  private var nextMaintenance: Duration
  private var nextBootstrap: Duration?
  private var bootstrapPause = Duration.seconds(1)
  private var nextRefresh: Duration

  /// How often silent contacts are looked for and expired announcements dropped.
  static let maintenanceInterval = Duration.seconds(15)
  /// How often the neighbourhood is searched anew.
  static let refreshInterval = Duration.seconds(300)
  /// The longest pause between attempts to reach a bootstrap node.
  static let bootstrapPauseMax = Duration.seconds(30)

  /// A node at `now`, a time since any fixed start.
  ///
  /// - Parameter sha1: SHA-1 of bytes.
  package init(
    id: NodeID, configuration: DHTConfiguration, now: Duration,
    sha1: @escaping @Sendable ([UInt8]) -> [UInt8],
    using generator: inout some RandomNumberGenerator
  ) {
    self.id = id
    self.configuration = configuration
    table = RoutingTable(own: id, bucketSize: configuration.bucketSize)
    store = PeerStore(configuration)
    tokens = TokenIssuer(
      interval: configuration.tokenSecretInterval, now: now, sha1: sha1, using: &generator)
    nextMaintenance = now + Self.maintenanceInterval
    nextRefresh = now + Self.refreshInterval
    nextBootstrap = configuration.bootstrap.isEmpty ? nil : now
  }

  /// Contacts in the routing table.
  package var contactCount: Int { table.count }
  /// Announcements in the store.
  package var storedCount: Int { store.count }

  // MARK: Time

  /// When `timerFired` is to be called next.
  package var nextDeadline: Duration {
    var next = nextMaintenance
    if let bootstrap = nextBootstrap { next = min(next, bootstrap) }
    if let query = transactions.nextDeadline { next = min(next, query) }
    return next
  }

  /// Does what is due at `now`.
  package mutating func timerFired(now: Duration, using generator: inout some RandomNumberGenerator)
  {
    tokens.advance(to: now, using: &generator)
    for query in transactions.becameSlow(at: now) { querySlow(query, now: now) }
    for query in transactions.expired(at: now) {
      statistics.timeouts += 1
      queryFailed(query, isTimeout: true, now: now)
    }
    if let bootstrap = nextBootstrap, now >= bootstrap { self.bootstrap(now: now) }
    if now >= nextMaintenance { maintain(now: now, using: &generator) }
  }

  /// Looks for the own neighbourhood, beginning at the bootstrap nodes; again, with growing pauses, for as
  /// long as nobody is known.
  private mutating func bootstrap(now: Duration) {
    guard table.count == 0 else {
      nextBootstrap = nil
      return
    }
    startLookup(.nodes, target: id, now: now)
    nextBootstrap = now + bootstrapPause
    bootstrapPause = min(bootstrapPause * 2, Self.bootstrapPauseMax)
  }

  private mutating func maintain(
    now: Duration, using generator: inout some RandomNumberGenerator
  ) {
    nextMaintenance = now + Self.maintenanceInterval
    store.removeExpired(now: now)
    tokenTables = tokenTables.filter { $0.value.expiry > now }
    if now > configuration.nodeLiveness {
      let since = now - configuration.nodeLiveness
      for contact in table.silent(since: since, max: 16) {
        send(.ping, to: contact.address, id: contact.id, .ping, now: now)
      }
    }
    if table.count == 0, nextBootstrap == nil, !configuration.bootstrap.isEmpty {
      bootstrapPause = .seconds(1)
      nextBootstrap = now
    }
    if now >= nextRefresh {
      nextRefresh = now + Self.refreshInterval
      startLookup(.nodes, target: id, now: now)
      startLookup(.nodes, target: .random(using: &generator), now: now)
    }
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

  /// Sends a query, unless too many are under way; returns whether it was sent.
  @discardableResult
  mutating func send(
    _ query: KRPCQuery, to address: DHTAddress, id: NodeID?, _ purpose: Transactions.Purpose,
    now: Duration
  ) -> Bool {
    guard transactions.count < configuration.outstandingMax else { return false }
    let transaction = transactions.begin(
      Transactions.Query(
        address: address, id: id, purpose: purpose, slowAt: now + configuration.slowAfter,
        deadline: now + configuration.queryTimeout))
    statistics.queriesSent += 1
    perform(.send(query.encoded(transaction: transaction, from: self.id), to: address))
    return true
  }
}
