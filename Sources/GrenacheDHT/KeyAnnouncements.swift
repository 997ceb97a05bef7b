/// The announcements of one key, in an order that does not depend on hashing, so that a seed replays a
/// simulation.
struct KeyAnnouncements: Sendable {
  struct Entry: Sendable {
    var expiry: Duration
    /// Whether this node's own callers have announced it.
    var isOwn: Bool
    /// Which of them, if they are counted.
    var caller: DHTCaller?
  }

  private(set) var all: [(peer: DHTAddress, entry: Entry)] = []
  private var places: [DHTAddress: Int] = [:]

  var count: Int { all.count }

  subscript(peer: DHTAddress) -> Entry? { places[peer].map { all[$0].entry } }

  /// Keeps an announcement, in place of that of the same peer if there is one.
  mutating func set(_ peer: DHTAddress, _ entry: Entry) {
    if let place = places[peer] {
      all[place].entry = entry
    } else {
      places[peer] = all.count
      all.append((peer, entry))
    }
  }

  mutating func remove(_ peer: DHTAddress) -> Entry? {
    guard let place = places.removeValue(forKey: peer) else { return nil }
    let entry = all[place].entry
    // The last one takes its place.
    all.swapAt(place, all.count - 1)
    all.removeLast()
    if place < all.count { places[all[place].peer] = place }
    return entry
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
