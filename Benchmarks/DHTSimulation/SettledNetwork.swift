internal import GrenacheDHT
internal import TestSupport

extension SimulatedNetwork {
  /// A network of so many nodes that know each other as after a long life: of each bucket as many as it
  /// takes, drawn by chance. It costs no datagram, so it may be larger than one that grows by joining.
  package static func settled(
    _ count: Int, seed: UInt64, spread: Duration = .zero
  ) -> SimulatedNetwork {
    var generator = SeededGenerator(seed: seed)
    var network = SimulatedNetwork(seed: seed)
    network.weather.spread = spread
    let contacts = (0..<count).map { number in
      let address = address(number)
      return DHTContact(id: .bound(to: address.host, using: &generator), address: address)
    }
    let sorted = contacts.sorted { $0.id < $1.id }
    for (number, own) in contacts.enumerated() {
      let known = neighbours(of: own.id, in: sorted, using: &generator)
      network.start(number, bootstrap: [], settledAs: (own.id, known))
    }
    return network
  }

  /// - Parameter sorted: every contact, by identifier.
  private static func neighbours(
    of own: NodeID, in sorted: [DHTContact], using generator: inout SeededGenerator
  ) -> [DHTContact] {
    let bucketSize = DHTConfiguration().bucketSize
    var result: [DHTContact] = []
    // Those that share so many bits with the node; they halve with each bit.
    var sharing = sorted.startIndex..<sorted.endIndex
    var bits = 0
    while sharing.count > 1 {
      let middle = firstIndex(in: sharing, of: sorted, differingAt: bits)
      let isLow = middle > sharing.lowerBound && isSame(sorted[sharing.lowerBound].id, own, bits)
      let other = isLow ? middle..<sharing.upperBound : sharing.lowerBound..<middle
      let step = max(1, other.count / bucketSize)
      let start = other.isEmpty ? 0 : Int.random(in: 0..<other.count, using: &generator)
      for place in 0..<min(bucketSize, other.count) {
        result.append(sorted[other.lowerBound + (start + place * step) % other.count])
      }
      sharing = isLow ? sharing.lowerBound..<middle : middle..<sharing.upperBound
      bits += 1
    }
    return result
  }

  private static func isSame(_ left: NodeID, _ right: NodeID, _ bit: Int) -> Bool {
    left.distance(to: right).leadingZeroBitCount > bit
  }

  /// Where, among identifiers that share the bits before, those begin that have a one; with ones alone,
  /// the beginning.
  private static func firstIndex(
    in range: Range<Int>, of sorted: [DHTContact], differingAt bit: Int
  ) -> Int {
    guard !isSame(sorted[range.lowerBound].id, sorted[range.upperBound - 1].id, bit) else {
      let zeroes = sorted[range.lowerBound].id.bytes[bit / 8] & (0x80 >> UInt8(bit % 8)) == 0
      return zeroes ? range.upperBound : range.lowerBound
    }
    var low = range.lowerBound
    var high = range.upperBound - 1
    while high - low > 1 {
      let middle = (low + high) / 2
      if isSame(sorted[range.lowerBound].id, sorted[middle].id, bit) {
        low = middle
      } else {
        high = middle
      }
    }
    return high
  }
}
