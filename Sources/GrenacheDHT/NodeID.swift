/// A node's identifier, and the point in the key space where a key lies: 160 bits (BEP 5).
package struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible {
  private var high: UInt64
  private var middle: UInt64
  private var low: UInt32

  private init(_ high: UInt64, _ middle: UInt64, _ low: UInt32) {
    self.high = high
    self.middle = middle
    self.low = low
  }

  /// An identifier of exactly 20 bytes.
  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 20 else { return nil }
    self.init(prefixOf: bytes)
  }

  /// The point of a key of any length. Existing nodes order by the exclusive or over the common prefix;
  /// filling up with zeros refines that order and makes it total.
  package init(prefixOf bytes: some Collection<UInt8>) {
    var words: (UInt64, UInt64, UInt64) = (0, 0, 0)
    var count = 0
    for byte in bytes.prefix(20) {
      switch count {
      case 0..<8: words.0 |= UInt64(byte) << UInt64(56 - 8 * count)
      case 8..<16: words.1 |= UInt64(byte) << UInt64(56 - 8 * (count - 8))
      default: words.2 |= UInt64(byte) << UInt64(24 - 8 * (count - 16))
      }
      count += 1
    }
    self.init(words.0, words.1, UInt32(truncatingIfNeeded: words.2))
  }

  package static func random(using generator: inout some RandomNumberGenerator) -> NodeID {
    NodeID(generator.next(), generator.next(), UInt32(truncatingIfNeeded: generator.next()))
  }

  /// The distance (BEP 5: exclusive or).
  package func distance(to other: NodeID) -> NodeID {
    NodeID(high ^ other.high, middle ^ other.middle, low ^ other.low)
  }

  package static func < (left: NodeID, right: NodeID) -> Bool {
    (left.high, left.middle, left.low) < (right.high, right.middle, right.low)
  }

  /// The zero bits in front, 160 for zero itself.
  package var leadingZeroBitCount: Int {
    if high != 0 { return high.leadingZeroBitCount }
    if middle != 0 { return 64 + middle.leadingZeroBitCount }
    return 128 + low.leadingZeroBitCount
  }

  package var bytes: [UInt8] {
    var result: [UInt8] = []
    for shift in stride(from: 56, through: 0, by: -8) {
      result.append(UInt8(truncatingIfNeeded: high >> UInt64(shift)))
    }
    for shift in stride(from: 56, through: 0, by: -8) {
      result.append(UInt8(truncatingIfNeeded: middle >> UInt64(shift)))
    }
    for shift in stride(from: 24, through: 0, by: -8) {
      result.append(UInt8(truncatingIfNeeded: low >> UInt32(shift)))
    }
    return result
  }

  package var description: String {
    bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
  }
}
