/// The peers of a key that is watched, from one lookup after the other.
///
/// Nodes may answer with different parts of many peers, so one that a lookup misses is not yet gone. Where
/// answers hold all there are, two lookups in a row that miss it are enough; where they hold a part, so
/// many that it would hardly have been missed each time by chance, and never more than `missesMax`: whoever
/// names others each time makes it seem likely for ever. What this grape has itself dropped is gone with
/// the first lookup that misses it.
struct WatchedPeers {
  /// What a node is ready to name in one answer, even to a stranger: fewer than these are all there are.
  static let wholeAnswerMax = 30
  /// The chance that one of so few is missed although it is there.
  private static let chanceMin = 0.01
  /// Two such lookups are enough.
  private static let chanceOfGone = 0.0002
  /// So many are enough, whatever the chance: where one lookup finds a quarter of all there are, it is
  /// below the above by then.
  static let missesMax = 32
  /// Lookups after this grape has dropped a peer in which others may still name it.
  private static let lookupsAfterDrop = 4

  /// Lookups in a row that have missed a peer.
  private struct Misses {
    var count = 0
    /// How likely it is that this was by chance.
    var chance = 1.0
  }

  /// What watchers know, `PeersFound.peersMax` at most; `nil` before there was anything to tell.
  private(set) var told: Set<FoundPeer>?
  /// The same in the order in which it is told: what the last lookup has found as it gave it, where no
  /// source crowds out the others, and behind that what it missed, the longest missed last.
  private(set) var inOrder: [FoundPeer] = []
  private var misses: [FoundPeer: Misses] = [:]
  /// What this grape stores, and what it has dropped, with the lookups for which that counts.
  private var stored: Set<FoundPeer>
  private var dropped: [FoundPeer: Int] = [:]
  private var wasWhole = true

  /// - Parameter stored: what this grape stores of the key.
  init(stored: Set<FoundPeer>) {
    self.stored = stored
  }

  /// Whether another lookup soon would tell what is gone.
  var isUncertain: Bool { !dropped.isEmpty || wasWhole && !misses.isEmpty }

  /// This grape stores other peers than before.
  mutating func storeChanged(_ now: Set<FoundPeer>) {
    for peer in stored.subtracting(now) { dropped[peer] = Self.lookupsAfterDrop }
    for peer in now { dropped[peer] = nil }
    stored = now
  }

  /// A lookup that goes on has found these; returns whether they are the first.
  mutating func foundFirst(_ peers: [FoundPeer]) -> Bool {
    guard told == nil, !peers.isEmpty else { return false }
    know(peers)
    return true
  }

  /// A lookup has ended, or has taken long; returns whether watchers have something to hear.
  ///
  /// - Parameters:
  ///   - peers: what it has found, in its order, each once.
  ///   - isIncomplete: what was not asked for everywhere is not gone.
  mutating func found(_ peers: [FoundPeer], isIncomplete: Bool) -> Bool {
    let before = told
    for peer in peers { misses[peer] = nil }
    // Those that were found the last time come first: nobody behind them has been missed less often.
    let found = Set(peers)
    var missed = inOrder.filter { !found.contains($0) }
    if !isIncomplete {
      note(missed, besides: peers.count)
      missed.removeAll(where: isGone)
    }
    guard before != nil || !isIncomplete || !peers.isEmpty else { return false }
    know(peers + missed)
    if !isIncomplete {
      dropped = dropped.compactMapValues { $0 > 1 ? $0 - 1 : nil }
        .filter { told?.contains($0.key) == true }
    }
    return told != before
  }

  /// Notes what a lookup has missed that has found so many others.
  private mutating func note(_ missed: [FoundPeer], besides foundCount: Int) {
    wasWhole = foundCount < Self.wholeAnswerMax
    let chance =
      wasWhole
      ? Self.chanceMin
      : max(Self.chanceMin, Double(missed.count) / Double(missed.count + foundCount))
    for peer in missed {
      misses[peer, default: Misses()].count += 1
      misses[peer, default: Misses()].chance *= chance
    }
  }

  private func isGone(_ peer: FoundPeer) -> Bool {
    guard let misses = misses[peer] else { return false }
    return dropped[peer] != nil || misses.chance < Self.chanceOfGone
      || misses.count >= Self.missesMax
  }

  /// Keeps the first of them, as many as may be told, and nothing about others.
  private mutating func know(_ peers: [FoundPeer]) {
    inOrder = Array(peers.prefix(PeersFound.peersMax))
    let told = Set(inOrder)
    misses = misses.filter { told.contains($0.key) }
    self.told = told
  }
}
