/// For each key the tokens of the last lookup, which are good for storing again (BEP 5), and whom this
/// node's services were announced to lately: who has to be told when one is withdrawn.
///
/// They are kept apart: anybody can have lookups made, and what was found makes room for what is found.
struct TokenTables: Sendable {
  /// A node that was sent an announcement.
  struct Told: Sendable {
    let contact: DHTContact
    let token: [UInt8]
    /// When, the last time.
    let time: Duration
  }
  private struct Table: Sendable {
    let tokens: [(contact: DHTContact, token: [UInt8])]
    let expiry: Duration
  }

  private var tables: [[UInt8]: Table] = [:]
  /// The longest ago first; never empty.
  private var told: [[UInt8]: [Told]] = [:]
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
    let max = configuration.tokenTablesMax
    Self.makeRoom(for: key, in: &tables, max) { $0.expiry }
    tables[key] = Table(tokens: tokens, expiry: now + configuration.tokenAge)
  }

  /// For a tenth of the entries, those with the earliest times, so that not every new key has to look for
  /// the oldest one.
  private static func makeRoom<Value>(
    for key: [UInt8], in entries: inout [[UInt8]: Value], _ max: Int, time: (Value) -> Duration
  ) {
    guard entries.count >= max, entries[key] == nil else { return }
    let places = entries.map { ExpiryOrder.Place(expiry: time($0.value), key: $0.key) }
    for oldest in places.sorted().prefix(Swift.max(1, max / 10)) { entries[oldest.key] = nil }
  }

  /// The tokens have gone stale.
  mutating func discardTokens(for key: [UInt8]) {
    tables[key] = nil
  }

  /// A node was sent an announcement.
  mutating func noteTold(
    _ contact: DHTContact, _ token: [UInt8], for key: [UInt8], now: Duration
  ) {
    Self.makeRoom(for: key, in: &told, configuration.keysMax) { $0.last?.time ?? .zero }
    told[key]?.removeAll { $0.contact.address == contact.address }
    told[key, default: []].append(Told(contact: contact, token: token, time: now))
    if let count = told[key]?.count, count > toldMax { told[key]?.removeFirst() }
  }

  /// Who may still keep what was announced.
  func told(of key: [UInt8], now: Duration) -> [Told] {
    (told[key] ?? []).filter { $0.time + configuration.peerAgeMax > now }
  }

  mutating func removeExpired(now: Duration) {
    tables = tables.filter { $0.value.expiry > now }
    told = told.compactMapValues { all in
      let left = all.filter { $0.time + configuration.peerAgeMax > now }
      return left.isEmpty ? nil : left
    }
  }
}
