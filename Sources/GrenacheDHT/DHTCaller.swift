/// Somebody for whom this node stores things and who is not of the DHT: a user of the grape's API. Who
/// that is, and by what he is told from others, is for the driver to say.
package struct DHTCaller: Hashable, Comparable, Sendable {
  package let bytes: [UInt8]

  package init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  package static func < (left: DHTCaller, right: DHTCaller) -> Bool {
    left.bytes.lexicographicallyPrecedes(right.bytes)
  }
}

/// How many things there are of each.
struct CountByOwner<Owner: Hashable & Sendable>: Sendable {
  private var counts: [Owner: Int] = [:]

  subscript(owner: Owner) -> Int { counts[owner] ?? 0 }

  /// Those that have any, and how many.
  var all: [Owner: Int] { counts }

  mutating func add(_ owner: Owner?) {
    if let owner { counts[owner, default: 0] += 1 }
  }

  mutating func remove(_ owner: Owner?) {
    guard let owner else { return }
    let left = self[owner] - 1
    counts[owner] = left > 0 ? left : nil
  }
}
