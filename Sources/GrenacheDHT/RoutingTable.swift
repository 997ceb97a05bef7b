/// The contacts that a node knows, in buckets by the length of the prefix that they share with it
/// (BEP 5, after Kademlia).
///
/// Only nodes that have answered a query of ours enter: their address is theirs. A full bucket keeps the
/// contacts that it has, for they have proven to stay, and remembers newcomers as replacements.
struct RoutingTable: Sendable {
  struct Entry: Sendable {
    var contact: DHTContact
    var lastAnswer: Duration
    /// Queries in a row without an answer.
    var failures = 0
  }
  private struct Bucket: Sendable {
    var entries: [Entry] = []
    var replacements: [DHTContact] = []
  }

  /// So many queries in a row without an answer make a contact bad.
  static let failuresMax = 2

  private let own: NodeID
  private let bucketSize: Int
  private var buckets: [Int: Bucket] = [:]
  private(set) var count = 0

  init(own: NodeID, bucketSize: Int) {
    self.own = own
    self.bucketSize = bucketSize
  }

  private func bucketIndex(_ id: NodeID) -> Int { own.distance(to: id).leadingZeroBitCount }

  func contains(_ contact: DHTContact) -> Bool {
    buckets[bucketIndex(contact.id)]?.entries.contains { $0.contact == contact } ?? false
  }

  /// Whether a node of that identifier could enter or is known at another address.
  func wants(_ id: NodeID) -> Bool {
    guard id != own else { return false }
    let bucket = buckets[bucketIndex(id)]
    if bucket?.entries.contains(where: { $0.contact.id == id }) == true { return false }
    return (bucket?.entries.count ?? 0) < bucketSize
  }

  /// A contact has answered.
  mutating func answered(_ contact: DHTContact, now: Duration) {
    guard contact.id != own else { return }
    let index = bucketIndex(contact.id)
    var bucket = buckets[index] ?? Bucket()
    defer { buckets[index] = bucket }
    if let known = bucket.entries.firstIndex(where: { $0.contact.id == contact.id }) {
      // The same identifier elsewhere: the one we know stays, unless it has gone silent.
      let isSame = bucket.entries[known].contact.address == contact.address
      guard isSame || bucket.entries[known].failures > 0 else { return }
      bucket.entries[known] = Entry(contact: contact, lastAnswer: now)
    } else if bucket.entries.count < bucketSize {
      bucket.entries.append(Entry(contact: contact, lastAnswer: now))
      count += 1
    } else if !bucket.replacements.contains(contact) {
      bucket.replacements.append(contact)
      if bucket.replacements.count > bucketSize { bucket.replacements.removeFirst() }
    }
  }

  /// A contact has not answered; a bad one makes room. Returns a replacement that is to be asked.
  mutating func failed(_ contact: DHTContact) -> DHTContact? {
    let index = bucketIndex(contact.id)
    guard var bucket = buckets[index],
      let known = bucket.entries.firstIndex(where: { $0.contact == contact })
    else { return nil }
    defer { buckets[index] = bucket }
    bucket.entries[known].failures += 1
    guard bucket.entries[known].failures >= Self.failuresMax else { return nil }
    bucket.entries.remove(at: known)
    count -= 1
    return bucket.replacements.popLast()
  }

  /// The `max` contacts nearest to `target`, the nearest first.
  func closest(to target: NodeID, max: Int) -> [DHTContact] {
    var nearest: [(distance: NodeID, contact: DHTContact)] = []
    for bucket in buckets.values {
      for entry in bucket.entries {
        let distance = target.distance(to: entry.contact.id)
        if nearest.count >= max, let last = nearest.last, last.distance <= distance { continue }
        let position = nearest.firstIndex { distance < $0.distance } ?? nearest.count
        nearest.insert((distance, entry.contact), at: position)
        if nearest.count > max { nearest.removeLast() }
      }
    }
    return nearest.map(\.contact)
  }

  /// Contacts that have not answered since `time`, the longest silent first.
  func silent(since time: Duration, max: Int) -> [DHTContact] {
    let silent = buckets.values.flatMap(\.entries).filter { $0.lastAnswer < time }
    return silent.sorted { ($0.lastAnswer, $0.contact.id) < ($1.lastAnswer, $1.contact.id) }
      .prefix(max).map(\.contact)
  }
}
