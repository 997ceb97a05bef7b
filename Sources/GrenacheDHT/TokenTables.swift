/// For each key the tokens of the last lookup, which are good for storing again (BEP 5), and whom this
/// node's services were announced to lately: who has to be told when one is withdrawn.
struct TokenTables: Sendable {
  /// A node that was sent an announcement.
  struct Told: Sendable {
    let contact: DHTContact
    let token: [UInt8]
    /// When, the last time.
    let time: Duration
  }
  private struct Table: Sendable {
    var tokens: [(contact: DHTContact, token: [UInt8])] = []
    var expiry = Duration.zero
    /// The longest ago first.
    var told: [Told] = []
  }

  private var tables: [[UInt8]: Table] = [:]
  private let configuration: DHTConfiguration

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  /// As many as two lookups find in both networks.
  private var toldMax: Int { configuration.bucketSize * 4 }

  /// The tokens that are still good.
  func tokens(for key: [UInt8], now: Duration) -> [(contact: DHTContact, token: [UInt8])] {
    guard let table = tables[key], table.expiry > now else { return [] }
    return table.tokens
  }

  mutating func keep(
    _ tokens: [(contact: DHTContact, token: [UInt8])], for key: [UInt8], now: Duration
  ) {
    guard !tokens.isEmpty else { return discardTokens(for: key) }
    makeRoom(for: key)
    tables[key, default: Table()].tokens = tokens
    tables[key]?.expiry = now + configuration.tokenAge
  }

  /// For a tenth of the tables, so that not every lookup of a new key has to look for the oldest one.
  private mutating func makeRoom(for key: [UInt8]) {
    guard tables.count >= configuration.tokenTablesMax, tables[key] == nil else { return }
    let places = tables.map { ExpiryOrder.Place(expiry: $0.value.expiry, key: $0.key) }
    for oldest in places.sorted().prefix(max(1, configuration.tokenTablesMax / 10)) {
      tables[oldest.key] = nil
    }
  }

  /// The tokens have gone stale.
  mutating func discardTokens(for key: [UInt8]) {
    tables[key]?.tokens = []
    if tables[key]?.told.isEmpty == true { tables[key] = nil }
  }

  /// A node was sent an announcement.
  mutating func noteTold(
    _ contact: DHTContact, _ token: [UInt8], for key: [UInt8], now: Duration
  ) {
    makeRoom(for: key)
    tables[key]?.told.removeAll { $0.contact.address == contact.address }
    tables[key, default: Table()].told.append(Told(contact: contact, token: token, time: now))
    if let count = tables[key]?.told.count, count > toldMax { tables[key]?.told.removeFirst() }
  }

  /// Who may still keep what was announced.
  func told(of key: [UInt8], now: Duration) -> [Told] {
    (tables[key]?.told ?? []).filter { $0.time + configuration.peerAgeMax > now }
  }

  mutating func removeExpired(now: Duration) {
    tables = tables.compactMapValues { table in
      var table = table
      table.told.removeAll { $0.time + configuration.peerAgeMax <= now }
      return table.expiry > now || !table.told.isEmpty ? table : nil
    }
  }
}
