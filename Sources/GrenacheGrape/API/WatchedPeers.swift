/// The peers of a key that is watched, from one lookup after the other.
///
/// Nodes may answer with different parts of many peers, so one that a lookup misses is not yet gone. Where
/// answers hold all there are, two lookups in a row that miss it are enough; where they hold a part, so
/// many that it would hardly have been missed each time by chance. What this grape has itself dropped is
/// gone with the first lookup that misses it.
struct WatchedPeers {
  /// What a node is ready to name in one answer, even to a stranger: fewer than these are all there are.
  static let wholeAnswerMax = 30
  /// The chance that one of so few is missed although it is there.
  private static let chanceMin = 0.01
  /// Two such lookups are enough.
  private static let chanceOfGone = 0.0002
  /// Lookups after this grape has dropped a peer in which others may still name it.
  private static let lookupsAfterDrop = 4

  /// What watchers know; `nil` before there was anything to tell.
  private(set) var told: Set<FoundPeer>?
  /// How likely it is of a peer that was missed that this was by chance.
  private var chances: [FoundPeer: Double] = [:]
  /// What this grape stores, and what it has dropped, with the lookups for which that counts.
  private var stored: Set<FoundPeer>
  private var dropped: [FoundPeer: Int] = [:]
  private var wasWhole = true

  /// - Parameter stored: what this grape stores of the key.
  init(stored: Set<FoundPeer>) {
    self.stored = stored
  }

  /// Whether another lookup soon would tell what is gone.
  var isUncertain: Bool { !dropped.isEmpty || wasWhole && !chances.isEmpty }

  /// This grape stores other peers than before.
  mutating func storeChanged(_ now: Set<FoundPeer>) {
    for peer in stored.subtracting(now) { dropped[peer] = Self.lookupsAfterDrop }
    for peer in now { dropped[peer] = nil }
    stored = now
  }

  /// A lookup that goes on has found these; returns whether they are the first.
  mutating func foundFirst(_ peers: Set<FoundPeer>) -> Bool {
    guard told == nil, !peers.isEmpty else { return false }
    told = peers
    return true
  }

  /// A lookup has ended; returns whether watchers have something to hear.
  ///
  /// - Parameter isIncomplete: what was not asked for everywhere is not gone.
  mutating func found(_ peers: Set<FoundPeer>, isIncomplete: Bool) -> Bool {
    var now = (told ?? []).union(peers)
    for peer in peers { chances[peer] = nil }
    if !isIncomplete {
      wasWhole = peers.count < Self.wholeAnswerMax
      let missed = now.subtracting(peers)
      let chance =
        wasWhole
        ? Self.chanceMin : max(Self.chanceMin, Double(missed.count) / Double(now.count))
      for peer in missed {
        let left = chances[peer, default: 1] * chance
        if dropped[peer] != nil || left < Self.chanceOfGone {
          now.remove(peer)
          chances[peer] = nil
        } else {
          chances[peer] = left
        }
      }
      dropped = dropped.compactMapValues { $0 > 1 ? $0 - 1 : nil }.filter { now.contains($0.key) }
    }
    guard told.map({ $0 != now }) ?? (!isIncomplete || !now.isEmpty) else { return false }
    told = now
    return true
  }
}
