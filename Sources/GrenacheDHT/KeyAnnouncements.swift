/// The announcements of one key, in an order that does not depend on hashing, so that a seed replays a
/// simulation.
struct KeyAnnouncements: Sendable {
  struct Entry: Sendable {
    var expiry: Duration
    /// Whether this node's own callers have announced it.
    var isOwn: Bool
    /// Which of them, if they are counted.
    var caller: DHTCaller?
    /// Until when it is kept for them, whatever datagrams from its address say.
    var ownUntil = Duration.zero
  }

  private(set) var all: [(peer: DHTAddress, entry: Entry)] = []
  private var places: [DHTAddress: Int] = [:]
  /// How many of them this node's own callers have made.
  private var ownCount = 0
  /// How many strangers have announced, of each network other than loopback.
  private(set) var strangersByPrefix = CountByOwner<UInt64>()

  /// Whether there are some, and all are strangers'.
  var areStrangers: Bool { !all.isEmpty && ownCount == 0 }
  var count: Int { all.count }
  /// When the last of them expires.
  var lastExpiry: Duration { all.lazy.map(\.entry.expiry).max() ?? .zero }

  subscript(peer: DHTAddress) -> Entry? { places[peer].map { all[$0].entry } }

  /// Keeps an announcement, in place of that of the same peer if there is one.
  mutating func set(_ peer: DHTAddress, _ entry: Entry) {
    if entry.isOwn { ownCount += 1 }
    if let place = places[peer] {
      if all[place].entry.isOwn { ownCount -= 1 }
      strangersByPrefix.remove(Self.prefix(of: peer, all[place].entry))
      all[place].entry = entry
    } else {
      places[peer] = all.count
      all.append((peer, entry))
    }
    strangersByPrefix.add(Self.prefix(of: peer, entry))
  }

  private static func prefix(of peer: DHTAddress, _ entry: Entry) -> UInt64? {
    entry.isOwn || peer.host.isLoopback ? nil : peer.host.prefix
  }

  mutating func remove(_ peer: DHTAddress) -> Entry? {
    guard let place = places.removeValue(forKey: peer) else { return nil }
    let entry = all[place].entry
    if entry.isOwn { ownCount -= 1 }
    strangersByPrefix.remove(Self.prefix(of: peer, entry))
    // The last one takes its place.
    all.swapAt(place, all.count - 1)
    all.removeLast()
    if place < all.count { places[all[place].peer] = place }
    return entry
  }

  /// Whose announcement makes room for one of that network, if another one has two more: of the network
  /// that has most, the one that expires first.
  func displaceable(for prefix: UInt64) -> DHTAddress? {
    let largest = strangersByPrefix.all.max { ($0.value, $0.key) < ($1.value, $1.key) }
    guard let largest, largest.value > strangersByPrefix[prefix] + 1 else { return nil }
    var first: (expiry: Duration, peer: DHTAddress)?
    for (peer, entry) in all where Self.prefix(of: peer, entry) == largest.key {
      if let first, (first.expiry, first.peer) < (entry.expiry, peer) { continue }
      first = (entry.expiry, peer)
    }
    return first?.peer
  }

  /// So many of those that are good at `now`, by chance, each as `shown` gives it; others are left out.
  func draw<Shown>(
    _ max: Int, at now: Duration, using generator: inout some RandomNumberGenerator,
    as shown: (DHTAddress) -> Shown?
  ) -> [Shown] {
    var result: [Shown] = []
    var rest = Array(all.indices)
    while !rest.isEmpty, result.count < max {
      let drawn = Int.random(in: rest.indices, using: &generator)
      rest.swapAt(drawn, rest.count - 1)
      guard let place = rest.popLast(), all[place].entry.expiry > now,
        let one = shown(all[place].peer)
      else { continue }
      result.append(one)
    }
    return result
  }
}
