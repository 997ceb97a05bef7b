/// What others say a node's own address is (BEP 42): believed when enough of them, each of another
/// network, have said so lately, and more than half of all that have said anything.
struct ExternalAddress: Sendable {
  /// So many networks have to agree.
  static let votesMin = 4
  /// Networks whose last word is remembered; the oldest makes room.
  static let votersMax = 32
  /// How long a vote counts.
  static let voteAge = Duration.seconds(1_800)
  /// Once an address is believed, it is for so long at least.
  static let changeInterval = Duration.seconds(600)

  private struct Vote: Sendable {
    let network: UInt64
    let host: DHTHost
    let time: Duration
  }
  /// The last word of each network, the oldest first.
  private var votes: [Vote] = []
  private var changedAt: Duration?
  /// What is believed.
  private(set) var host: DHTHost?

  /// Takes a vote; returns the address when that has just decided it.
  mutating func note(_ seen: DHTHost, by voter: DHTHost, now: Duration) -> DHTHost? {
    guard !seen.isLocal, !voter.isLocal, seen.isUnicast else { return nil }
    votes.removeAll { $0.network == voter.prefix || $0.time + Self.voteAge <= now }
    if votes.count >= Self.votersMax { votes.removeFirst() }
    votes.append(Vote(network: voter.prefix, host: seen, time: now))
    let agreeing = votes.count { $0.host == seen }
    guard seen != host, agreeing >= Self.votesMin, agreeing * 2 > votes.count else { return nil }
    if let changedAt, now < changedAt + Self.changeInterval { return nil }
    changedAt = now
    host = seen
    return seen
  }
}
