/// What others say a node's own address is (BEP 42): believed when enough of them, each of another
/// network, agree.
struct ExternalAddress: Sendable {
  /// So many networks have to agree.
  static let votesMin = 4
  /// Addresses that are counted; a few liars cannot fill memory.
  private static let addressesMax = 8

  private var votes: [DHTHost: Set<UInt64>] = [:]
  /// What has been believed last.
  private(set) var host: DHTHost?

  /// Takes a vote; returns the address when that has just decided it.
  mutating func note(_ seen: DHTHost, by voter: DHTHost) -> DHTHost? {
    guard !seen.isLocal, !voter.isLocal, seen != host else { return nil }
    guard votes.count < Self.addressesMax || votes[seen] != nil else {
      votes = [:]
      return nil
    }
    votes[seen, default: []].insert(voter.prefix)
    guard (votes[seen]?.count ?? 0) >= Self.votesMin else { return nil }
    votes = [:]
    host = seen
    return seen
  }
}
