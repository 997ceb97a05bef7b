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

  /// The 20 bytes from `index` on, which have to be there.
  init(_ bytes: Span<UInt8>, at index: Int) {
    self.init(
      bytes.bigEndian(at: index, count: 8), bytes.bigEndian(at: index + 8, count: 8),
      UInt32(truncatingIfNeeded: bytes.bigEndian(at: index + 16, count: 4)))
  }

  package static func random(using generator: inout some RandomNumberGenerator) -> NodeID {
    NodeID(generator.next(), generator.next(), UInt32(truncatingIfNeeded: generator.next()))
  }

  /// The distance (BEP 5: exclusive or).
  package func distance(to other: NodeID) -> NodeID {
    NodeID(high ^ other.high, middle ^ other.middle, low ^ other.low)
  }

  package static func < (left: NodeID, right: NodeID) -> Bool {
    if left.high != right.high { return left.high < right.high }
    if left.middle != right.middle { return left.middle < right.middle }
    return left.low < right.low
  }

  /// The zero bits in front, 160 for zero itself.
  package var leadingZeroBitCount: Int {
    if high != 0 { return high.leadingZeroBitCount }
    if middle != 0 { return 64 + middle.leadingZeroBitCount }
    return 128 + low.leadingZeroBitCount
  }

  /// An identifier that shares the first `count` bits with this one, differs in the next, and is
  /// random behind that: some point in a bucket.
  func sharing(_ count: Int, using generator: inout some RandomNumberGenerator) -> NodeID {
    let noise = NodeID.random(using: &generator)
    func mix(_ own: UInt64, _ other: UInt64, from start: Int) -> UInt64 {
      let bits = count - start
      if bits >= 64 { return own }
      if bits < 0 { return other }
      let bit: UInt64 = 1 << UInt64(63 - bits)
      return own & ~(bit | (bit - 1)) | (own ^ bit) & bit | other & (bit - 1)
    }
    let last = mix(UInt64(low) << 32, UInt64(noise.low) << 32, from: 128)
    return NodeID(
      mix(high, noise.high, from: 0), mix(middle, noise.middle, from: 64),
      UInt32(truncatingIfNeeded: last >> 32))
  }

  package var bytes: [UInt8] {
    var result: [UInt8] = []
    append(to: &result)
    return result
  }

  func append(to bytes: inout [UInt8]) {
    bytes.append(bigEndian: high, count: 8)
    bytes.append(bigEndian: middle, count: 8)
    bytes.append(bigEndian: UInt64(low), count: 4)
  }

  package var description: String {
    bytes.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
  }
}

// MARK: BEP 42

extension NodeID {
  /// An identifier that a node at `host` may bear: its first 21 bits follow from the address (BEP 42).
  package static func bound(
    to host: DHTHost, using generator: inout some RandomNumberGenerator
  ) -> NodeID {
    var id = random(using: &generator)
    let checksum = UInt64(checksum(of: host, seed: UInt8(truncatingIfNeeded: id.low)))
    let mask: UInt64 = 0xffff_f800_0000_0000
    id.high = checksum << 32 & mask | id.high & ~mask
    return id
  }

  /// Whether a node at `host` may bear the identifier; local addresses are exempt (BEP 42).
  package func isAllowed(at host: DHTHost) -> Bool {
    guard !host.isLocal else { return true }
    let checksum = UInt64(Self.checksum(of: host, seed: UInt8(truncatingIfNeeded: low)))
    return (checksum << 32 ^ high) & 0xffff_f800_0000_0000 == 0
  }

  /// CRC-32C of what is not the host's part of the address, and of three bits of the last byte.
  private static func checksum(of host: DHTHost, seed: UInt8) -> UInt32 {
    let isIPv4 = host.family == .ipv4
    var rest =
      isIPv4 ? UInt64(host.ip & 0x030f_3fff) << 32 : host.high & 0x0103_070f_1f3f_7fff
    rest |= UInt64(seed & 7) << 61
    var checksum = ~UInt32(0)
    for _ in 0..<(isIPv4 ? 4 : 8) {
      checksum = checksum >> 8 ^ crc32c[Int((checksum ^ UInt32(rest >> 56)) & 255)]
      rest <<= 8
    }
    return ~checksum
  }

  /// What each byte does to a CRC-32C: every contact that is heard of is checked.
  private static let crc32c: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { checksum, _ in
      checksum & 1 == 1 ? checksum >> 1 ^ 0x82f6_3b78 : checksum >> 1
    }
  }
}
