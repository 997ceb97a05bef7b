internal import Glibc

/// An IP address and a port.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
  /// The address itself.
  public enum Host: Hashable, Sendable {
    /// Four bytes, in network order.
    case ipv4(UInt8, UInt8, UInt8, UInt8)
    /// The two halves of an IPv6 address and the scope of a link-local one (0 for none).
    case ipv6(high: UInt64, low: UInt64, scope: UInt32)
  }

  /// The IP address.
  public var host: Host
  /// The port, in host byte order.
  public var port: UInt16

  /// Makes an address from its parts.
  public init(host: Host, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Parses the text of an IPv4 or IPv6 address (RFC 4291 §2.2); `nil` for anything else.
  public init?(ip text: String, port: UInt16) {
    var v4 = in_addr()
    if unsafe inet_pton(AF_INET, text, &v4) == 1 {
      self.init(v4: v4, port: port)
      return
    }
    var v6 = in6_addr()
    guard unsafe inet_pton(AF_INET6, text, &v6) == 1 else { return nil }
    self.init(v6: v6, scope: 0, port: port)
  }

  /// 127.0.0.1.
  public static func loopback(port: UInt16) -> SocketAddress {
    SocketAddress(host: .ipv4(127, 0, 0, 1), port: port)
  }

  /// The address without the port, as text.
  public var ip: String {
    switch host {
    case .ipv4(let a, let b, let c, let d): return "\(a).\(b).\(c).\(d)"
    case .ipv6(let high, let low, _): return Self.ipv6Text(high: high, low: low)
    }
  }

  /// `127.0.0.1:4001` or `[::1]:4001`.
  public var description: String {
    switch host {
    case .ipv4: "\(ip):\(port)"
    case .ipv6: "[\(ip)]:\(port)"
    }
  }

  /// Whether packets to this address stay on this machine (127.0.0.0/8, ::1, and the former mapped).
  public var isLoopback: Bool {
    switch host {
    case .ipv4(let first, _, _, _): first == 127
    case .ipv6(let high, let low, _):
      high == 0 && (low == 1 || low >> 24 == 0xffff_7f)
    }
  }

  /// The IPv4 address that an IPv4-mapped IPv6 address stands for (RFC 4291 §2.5.5.2), else itself.
  public var unmapped: SocketAddress {
    guard case .ipv6(let high, let low, _) = host, high == 0, low >> 32 == 0xffff else {
      return self
    }
    let bytes = UInt32(truncatingIfNeeded: low)
    return SocketAddress(host: Self.ipv4Host(bigEndian: bytes.bigEndian), port: port)
  }

  private static func ipv4Host(bigEndian raw: UInt32) -> Host {
    let value = UInt32(bigEndian: raw)
    return .ipv4(
      UInt8(truncatingIfNeeded: value >> 24), UInt8(truncatingIfNeeded: value >> 16),
      UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value))
  }

  private static func ipv6Text(high: UInt64, low: UInt64) -> String {
    var address = in6_addr(high: high, low: low)
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    return unsafe text.withUnsafeMutableBufferPointer { buffer in
      guard
        let base = unsafe inet_ntop(
          AF_INET6, &address, buffer.baseAddress, socklen_t(buffer.count))
      else { return "::" }
      return unsafe String(cString: base)
    }
  }
}

// MARK: The system's form

extension SocketAddress {
  fileprivate init(v4: in_addr, port: UInt16) {
    self.init(host: Self.ipv4Host(bigEndian: v4.s_addr), port: port)
  }

  fileprivate init(v6: in6_addr, scope: UInt32, port: UInt16) {
    let (high, low) = v6.halves
    self.init(host: .ipv6(high: high, low: low, scope: scope), port: port)
  }

  var family: Int32 {
    switch host {
    case .ipv4: AF_INET
    case .ipv6: AF_INET6
    }
  }

  /// Reads what the system wrote; `nil` for a family that is not IP.
  init?(_ storage: sockaddr_storage) {
    switch Int32(storage.ss_family) {
    case AF_INET:
      let address = unsafe unsafeBitCast(storage.prefix16, to: sockaddr_in.self)
      self.init(v4: address.sin_addr, port: UInt16(bigEndian: address.sin_port))
    case AF_INET6:
      let address = storage.ipv6
      self.init(
        v6: address.sin6_addr, scope: address.sin6_scope_id,
        port: UInt16(bigEndian: address.sin6_port))
    default:
      return nil
    }
  }

  /// Lends the address in the system's form.
  func withSystemAddress<Result>(
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    switch host {
    case .ipv4(let a, let b, let c, let d):
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      let value = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
      address.sin_addr.s_addr = value.bigEndian
      return unsafe withSystemForm(of: &address, body)
    case .ipv6(let high, let low, let scope):
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      address.sin6_port = port.bigEndian
      address.sin6_addr = in6_addr(high: high, low: low)
      address.sin6_scope_id = scope
      return unsafe withSystemForm(of: &address, body)
    }
  }

  private func withSystemForm<Address, Result>(
    of address: inout Address, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    let size = socklen_t(MemoryLayout<Address>.size)
    return unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0, size) }
    }
  }

  /// The address that a call such as `getsockname` fills in.
  static func filled(
    by call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  ) -> SocketAddress? {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &size) }
    }
    return result == 0 ? SocketAddress(storage) : nil
  }
}

extension in6_addr {
  fileprivate init(high: UInt64, low: UInt64) {
    self = unsafe unsafeBitCast((high.bigEndian, low.bigEndian), to: in6_addr.self)
  }

  fileprivate var halves: (UInt64, UInt64) {
    let raw = unsafe unsafeBitCast(self, to: (UInt64, UInt64).self)
    return (UInt64(bigEndian: raw.0), UInt64(bigEndian: raw.1))
  }
}

extension sockaddr_storage {
  /// The first 16 bytes, which are a whole `sockaddr_in`.
  fileprivate var prefix16: (UInt64, UInt64) {
    unsafe withUnsafeBytes(of: self) { unsafe $0.loadUnaligned(as: (UInt64, UInt64).self) }
  }

  fileprivate var ipv6: sockaddr_in6 {
    unsafe withUnsafeBytes(of: self) { unsafe $0.loadUnaligned(as: sockaddr_in6.self) }
  }
}
