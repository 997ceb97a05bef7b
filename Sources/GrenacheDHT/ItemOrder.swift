/// When values expire, the first one first: which of a group makes room costs a few steps, however many
/// there are.
///
/// A value that goes, or is kept for longer, leaves its old place behind. Such places are dropped when it
/// is their turn, or when there are more of them than of others.
struct ItemOrder: Sendable {
  struct Place: Hashable, Comparable, Sendable {
    let expiry: Duration
    let target: [UInt8]

    /// An order that does not depend on hashing, so that a seed replays a simulation.
    static func < (left: Place, right: Place) -> Bool {
      left.expiry == right.expiry
        ? left.target.lexicographicallyPrecedes(right.target) : left.expiry < right.expiry
    }
  }

  /// Places that may be out of date where there are few values.
  private static let spare = 32

  private var heap = Heap<Place>()

  /// How many places there are, those included that are out of date.
  var count: Int { heap.count }

  /// - Parameters:
  ///   - count: how many values there are.
  ///   - isCurrent: whether a place is still that of a value.
  mutating func add(_ place: Place, among count: Int, isCurrent: (Place) -> Bool) {
    heap.insert(place)
    guard heap.count > 2 * count + Self.spare else { return }
    var sorted: [Place] = []
    for place in heap.all.filter(isCurrent).sorted() where place != sorted.last {
      sorted.append(place)
    }
    heap = Heap(sorted: sorted)
  }

  /// The place of the value that expires first.
  mutating func first(isCurrent: (Place) -> Bool) -> Place? {
    while let first = heap.first {
      if isCurrent(first) { return first }
      heap.removeFirst()
    }
    return nil
  }
}

/// Who has most of something, known in a few steps.
struct LargestOwner<Owner: Hashable & Comparable & Sendable>: Sendable {
  private struct Rank: Comparable, Sendable {
    let count: Int
    let owner: Owner

    /// Who has more comes first; of those who have as many, the highest.
    static func < (left: Rank, right: Rank) -> Bool {
      (left.count, left.owner) > (right.count, right.owner)
    }
  }

  /// Ranks that may be out of date where there are few owners.
  private let spare = 32

  private(set) var counts = CountByOwner<Owner>()
  /// What was counted when somebody got one more; of whom that is too high, it is mended in turn.
  private var ranks = Heap<Rank>()

  mutating func add(_ owner: Owner?) {
    guard let owner else { return }
    counts.add(owner)
    ranks.insert(Rank(count: counts[owner], owner: owner))
    guard ranks.count > 2 * counts.all.count + spare else { return }
    ranks = Heap(sorted: counts.all.map { Rank(count: $0.value, owner: $0.key) }.sorted())
  }

  mutating func remove(_ owner: Owner?) {
    counts.remove(owner)
  }

  /// Who has most; `nil` when nobody has any.
  mutating func largest() -> Owner? {
    while let first = ranks.first {
      let count = counts[first.owner]
      if count == first.count { return first.owner }
      ranks.removeFirst()
      if count > 0, count < first.count { ranks.insert(Rank(count: count, owner: first.owner)) }
    }
    return nil
  }
}
