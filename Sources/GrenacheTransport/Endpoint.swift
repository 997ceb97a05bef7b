public import GrenacheIO

/// A host, by name or IP address, and a port.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible, LosslessStringConvertible {
  /// The host name or IP address, an IPv6 address without brackets.
  public var host: String
  /// The port, not 0.
  public var port: UInt16

  /// Makes an endpoint from its parts.
  public init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// The endpoint of an address.
  public init(_ address: SocketAddress) {
    self.init(host: address.ip, port: address.port)
  }

  /// Parses `host:port`, `1.2.3.4:port` or `[::1]:port`; `nil` for anything else.
  public init?(_ description: String) {
    let text = description
    let host: Substring
    let rest: Substring
    if text.first == "[" {
      guard let end = text.firstIndex(of: "]") else { return nil }
      host = text[text.index(after: text.startIndex)..<end]
      rest = text[text.index(after: end)...]
      guard SocketAddress(ip: String(host), port: 0) != nil, rest.first == ":" else { return nil }
    } else {
      guard let colon = text.lastIndex(of: ":") else { return nil }
      host = text[..<colon]
      rest = text[colon...]
      guard Self.isHost(host) else { return nil }
    }
    let digits = rest.dropFirst()
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }),
      let port = UInt16(digits), port > 0
    else { return nil }
    self.init(host: String(host), port: port)
  }

  /// `host:port`, with brackets around an IPv6 address.
  public var description: String {
    host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }

  /// Letters, digits, hyphens, underscores and dots: what a name or an IPv4 address is made of.
  private static func isHost(_ text: Substring) -> Bool {
    guard !text.isEmpty, text.utf8.count <= 255 else { return false }
    return text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"):
        true
      default: false
      }
    }
  }
}
