/// Which of the two networks an address belongs to: each has a DHT of its own (BEP 32).
package enum DHTFamily: Hashable, Sendable, CaseIterable {
  case ipv4
  case ipv6

  /// Bytes of compact peer info: the address and two bytes of port.
  var compactBytes: Int { self == .ipv4 ? 6 : 18 }
  /// Bytes of compact node info: an identifier before that.
  var compactNodeBytes: Int { 20 + compactBytes }
}

/// An IP address and a port, as compact node and peer info hold them (BEP 5, BEP 32).
package struct DHTAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The address without its port. IPv4 addresses are kept as IPv4-mapped IPv6 ones (RFC 4291 §2.5.5.2).
  package let host: DHTHost
  package var port: UInt16

  /// What counts as one source: a network, and on loopback, where one machine has many nodes, a port.
  var sourceNetwork: UInt64 { host.isLoopback ? UInt64(port) : host.prefix }

  package init(host: DHTHost, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// An IPv4 address, its first byte highest.
  package init(ip: UInt32, port: UInt16) {
    self.init(host: DHTHost(ip: ip), port: port)
  }

  /// 6 or 18 bytes: the address and two bytes of port, big-endian.
  package init?(compact bytes: some Collection<UInt8>) {
    guard bytes.count == 6 || bytes.count == 18 else { return nil }
    var high: UInt64 = 0
    var low: UInt64 = 0
    for byte in bytes.dropLast(2) {
      high = high << 8 | low >> 56
      low = low << 8 | UInt64(byte)
    }
    var port: UInt16 = 0
    for byte in bytes.suffix(2) { port = port << 8 | UInt16(byte) }
    self.init(
      host: bytes.count == 6
        ? DHTHost(ip: UInt32(truncatingIfNeeded: low)) : DHTHost(high: high, low: low),
      port: port)
  }

  /// The compact form from `index` on, which has to be there.
  init(_ bytes: Span<UInt8>, at index: Int, _ family: DHTFamily) {
    let end = index + family.compactBytes - 2
    let host =
      family == .ipv4
      ? DHTHost(ip: UInt32(truncatingIfNeeded: bytes.bigEndian(at: index, count: 4)))
      : DHTHost(
        high: bytes.bigEndian(at: index, count: 8), low: bytes.bigEndian(at: index + 8, count: 8))
    self.init(
      host: host, port: UInt16(truncatingIfNeeded: bytes.bigEndian(at: end, count: 2)))
  }

  package var family: DHTFamily { host.family }
  /// The four bytes of an IPv4 address.
  package var ip: UInt32 { host.ip }
  /// The address without the port, as text.
  package var ipText: String { host.description }

  package var compact: [UInt8] {
    var bytes: [UInt8] = []
    appendCompact(to: &bytes)
    return bytes
  }

  func appendCompact(to bytes: inout [UInt8]) {
    host.append(to: &bytes)
    bytes.append(UInt8(truncatingIfNeeded: port >> 8))
    bytes.append(UInt8(truncatingIfNeeded: port))
  }

  package static func < (left: DHTAddress, right: DHTAddress) -> Bool {
    (left.host, left.port) < (right.host, right.port)
  }

  /// `127.0.0.1:4001` or `[::1]:4001`.
  package var description: String {
    family == .ipv4 ? "\(host):\(port)" : "[\(host)]:\(port)"
  }
}

/// An IP address: what limits are counted by.
package struct DHTHost: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let high: UInt64
  package let low: UInt64

  private static let mapped: UInt64 = 0xffff_0000_0000

  /// The halves of an IPv6 address.
  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  package static func < (left: DHTHost, right: DHTHost) -> Bool {
    (left.high, left.low) < (right.high, right.low)
  }

  /// An IPv4 address, its first byte highest.
  package init(ip: UInt32) {
    self.init(high: 0, low: Self.mapped | UInt64(ip))
  }

  package var family: DHTFamily {
    high == 0 && low >> 32 == 0xffff ? .ipv4 : .ipv6
  }

  package var ip: UInt32 { UInt32(truncatingIfNeeded: low) }

  /// The network that one party easily has many addresses of: a /24, or a /48 of IPv6.
  var prefix: UInt64 {
    family == .ipv4 ? low >> 8 : 1 << 63 | high >> 16
  }

  /// 127.0.0.0/8 and ::1: whoever sends from there is on this machine.
  package var isLoopback: Bool {
    family == .ipv4 ? ip >> 24 == 127 : high == 0 && low == 1
  }

  /// Loopback, private and link-local addresses, which strangers cannot have: those that BEP 42
  /// exempts, and their like of IPv6 (RFC 4193, RFC 4291).
  package var isLocal: Bool {
    guard family == .ipv4 else {
      return isLoopback || high >> 57 == 0x7e || high >> 54 == 0x3fa
    }
    return ip >> 24 == 127 || ip >> 24 == 10 || ip >> 20 == 0xac1 || ip >> 16 == 0xc0a8
      || ip >> 16 == 0xa9fe
  }

  /// Whether somebody can be there: not 0.0.0.0/8, multicast or reserved (RFC 6890), nor `::` or
  /// ff00::/8 (RFC 4291).
  var isUnicast: Bool {
    if family == .ipv4 { return ip >> 24 != 0 && ip >> 24 < 224 }
    return high >> 56 != 0xff && (high, low) != (0, 0)
  }

  /// Whether others see a host at this very address wherever they are: it is neither local, nor what
  /// providers translate (100.64.0.0/10, RFC 6598).
  package var isPublic: Bool {
    isUnicast && !isLocal && !(family == .ipv4 && ip >> 22 == 0x191)
  }

  /// Whether somebody here may name somebody there: what is on a private network is of use to those
  /// who are on one, and what is on a machine's loopback to that machine alone.
  func mayName(_ other: DHTHost) -> Bool {
    other.isLoopback ? isLoopback : isLocal || !other.isLocal
  }

  func append(to bytes: inout [UInt8]) {
    if family == .ipv4 {
      bytes.append(bigEndian: UInt64(ip), count: 4)
    } else {
      bytes.append(bigEndian: high, count: 8)
      bytes.append(bigEndian: low, count: 8)
    }
  }

  package var description: String {
    if family == .ipv4 { return "\(ip >> 24).\(ip >> 16 & 255).\(ip >> 8 & 255).\(ip & 255)" }
    return [high, low].flatMap { half in
      stride(from: 48, through: 0, by: -16).map { String(half >> UInt64($0) & 0xffff, radix: 16) }
    }.joined(separator: ":")
  }
}

extension [UInt8] {
  /// Appends the low `count` bytes of `value`, the highest first.
  mutating func append(bigEndian value: UInt64, count: Int) {
    var shift = UInt64(count) * 8
    while shift > 0 {
      shift -= 8
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}

extension Span<UInt8> {
  /// The number that `count` bytes from `index` on make, the highest first.
  func bigEndian(at index: Int, count: Int) -> UInt64 {
    var value: UInt64 = 0
    for offset in 0..<count { value = value << 8 | UInt64(self[index + offset]) }
    return value
  }
}
