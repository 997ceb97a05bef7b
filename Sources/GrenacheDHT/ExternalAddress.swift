/// What others say a node's own address is (BEP 42).
///
/// An address is believed for good when enough of them, each of another network, have said so lately,
/// and more than half of all that have said anything. As long as fewer networks than that are known,
/// the majority of what votes there are will do, those of bootstrap nodes before others: without an
/// identifier that fits nobody would know the node, and two grapes could not even begin a network.
struct ExternalAddress: Sendable {
  /// So many networks have to agree.
  static let votesMin = 4
  /// Networks whose last word is remembered; the oldest makes room.
  static let votersMax = 32
  /// How long a vote counts.
  static let voteAge = Duration.seconds(1_800)
  /// Once that many agree on an address, it is believed for so long at least.
  static let changeInterval = Duration.seconds(600)
  /// The same of an address that few have named: one liar among them does not have the node look for
  /// its neighbours without end.
  static let earlyChangeInterval = Duration.seconds(10)

  private struct Vote: Sendable {
    let network: UInt64
    let host: DHTHost
    let isOfBootstrap: Bool
    let time: Duration
  }
  /// Who has said so.
  private enum Standing: Int, Comparable, Sendable {
    case few
    case bootstrap
    case many
    /// The configuration: no vote changes that.
    case configured

    static func < (left: Standing, right: Standing) -> Bool { left.rawValue < right.rawValue }
  }
  private struct Belief: Sendable {
    var host: DHTHost
    var standing: Standing
    var since: Duration
  }

  /// The last word of each network, the oldest first.
  private var votes: [Vote] = []
  private var belief: Belief?

  init() {}

  /// An address that is known for certain.
  init(configured host: DHTHost) {
    belief = Belief(host: host, standing: .configured, since: .zero)
  }

  /// What is believed.
  var host: DHTHost? { belief?.host }
  /// Whether it is believed for good, and strangers' doubts are none.
  var isSettled: Bool { belief.map { $0.standing >= .many } ?? false }

  /// Takes a vote; returns whether it is at odds with what is believed: then `decide` is to be called.
  mutating func note(
    _ seen: DHTHost, by voter: DHTHost, isOfBootstrap: Bool = false, now: Duration
  ) -> Bool {
    guard belief?.standing != .configured, !seen.isLocal, !voter.isLocal, seen.isUnicast else {
      return false
    }
    votes.removeAll { $0.network == voter.prefix || $0.time + Self.voteAge <= now }
    if votes.count >= Self.votersMax { votes.removeFirst() }
    votes.append(
      Vote(network: voter.prefix, host: seen, isOfBootstrap: isOfBootstrap, time: now))
    guard seen == host else { return true }
    if belief?.standing != .many, majority(of: votes, atLeast: Self.votesMin) == seen {
      belief?.standing = .many
    }
    return false
  }

  /// Decides by the votes; returns the address when that is news.
  ///
  /// - Parameter isAmongFew: whether contacts of fewer than `votesMin` networks are known.
  mutating func decide(isAmongFew: Bool, now: Duration) -> DHTHost? {
    guard let verdict = verdict(isAmongFew: isAmongFew), verdict.host != host else { return nil }
    if let belief {
      switch belief.standing {
      case .configured:
        return nil
      case .many:
        guard now >= belief.since + Self.changeInterval else { return nil }
      case .few, .bootstrap:
        guard verdict.standing > belief.standing || now >= belief.since + Self.earlyChangeInterval
        else { return nil }
      }
    }
    belief = Belief(host: verdict.host, standing: verdict.standing, since: now)
    return verdict.host
  }

  private func verdict(isAmongFew: Bool) -> (host: DHTHost, standing: Standing)? {
    if let host = majority(of: votes, atLeast: Self.votesMin) { return (host, .many) }
    guard isAmongFew else { return nil }
    let trusted = votes.filter(\.isOfBootstrap)
    if trusted.isEmpty { return majority(of: votes, atLeast: 1).map { ($0, .few) } }
    return majority(of: trusted, atLeast: 1).map { ($0, .bootstrap) }
  }

  /// What more than half of them say, and so many.
  private func majority(of votes: [Vote], atLeast least: Int) -> DHTHost? {
    guard votes.count >= least, var host = votes.first?.host else { return nil }
    // Whoever has a majority is left when each vote cancels out one for somebody else.
    var lead = 0
    for vote in votes {
      if lead == 0 { host = vote.host }
      lead += vote.host == host ? 1 : -1
    }
    let agreeing = votes.count { $0.host == host }
    return agreeing >= least && agreeing * 2 > votes.count ? host : nil
  }
}
