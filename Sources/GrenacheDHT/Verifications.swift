/// Who is being asked whether it is where it says.
///
/// Strangers can come in any number and under any address: they have places of their own, of which one
/// network takes only so many and nobody keeps one for longer than an answer may well take.
struct Verifications: Sendable {
  private let configuration: DHTConfiguration
  private var strangers: Set<DHTAddress> = []
  /// Contacts, replacements of contacts, and those that were known before a restart.
  private var others: Set<DHTAddress> = []

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  func contains(_ address: DHTAddress) -> Bool {
    strangers.contains(address) || others.contains(address)
  }

  /// Whether there is a place for one more.
  func hasPlace(for address: DHTAddress, isStranger: Bool) -> Bool {
    guard !contains(address) else { return false }
    guard isStranger else { return others.count < configuration.verificationsMax }
    guard strangers.count < configuration.verificationsMax else { return false }
    guard configuration.limitsPrefix(of: address.host) else { return true }
    let prefix = address.host.prefix
    return strangers.count { $0.host.prefix == prefix } < configuration.nodesPerPrefixMax
  }

  mutating func begin(_ address: DHTAddress, isStranger: Bool) {
    if isStranger { strangers.insert(address) } else { others.insert(address) }
  }

  /// An answer is late: it still counts, but others need the place.
  mutating func slow(_ address: DHTAddress) {
    strangers.remove(address)
  }

  mutating func end(_ address: DHTAddress) {
    strangers.remove(address)
    others.remove(address)
  }
}
