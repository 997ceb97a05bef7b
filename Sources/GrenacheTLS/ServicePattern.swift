/// Which services a URI SAN `grenache:<service>` covers (RFC 3986, path-rootless).
///
/// The name is percent-encoded where needed, and compared decoded, byte for byte. A final `*` covers
/// every name that begins so; an encoded one (`%2A`) is an ordinary character.
public struct ServicePattern: Hashable, Sendable, CustomStringConvertible {
  /// The bytes of the name, or of what it begins with.
  private let bytes: [UInt8]
  private let isPrefix: Bool

  /// The pattern of a URI; `nil` for a URI of another scheme, or one that is not encoded rightly.
  public init?(uri: String) {
    let text = Array(uri.utf8)
    guard let colon = text.firstIndex(of: UInt8(ascii: ":")),
      String(decoding: text[..<colon], as: UTF8.self).lowercased() == "grenache"
    else { return nil }
    var rest = text[(colon + 1)...]
    isPrefix = rest.last == UInt8(ascii: "*")
    if isPrefix { rest.removeLast() }
    guard let decoded = Self.decode(rest), isPrefix || !decoded.isEmpty else { return nil }
    bytes = decoded
  }

  /// Whether the pattern covers `service`.
  public func covers(_ service: String) -> Bool {
    let name = Array(service.utf8)
    guard !name.isEmpty else { return false }
    return isPrefix ? name.starts(with: bytes) : name == bytes
  }

  /// The URI that names exactly `service`.
  public static func uri(for service: String) -> String {
    var text = "grenache:"
    for byte in service.utf8 {
      if isPlain(byte) {
        text.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        text += "%" + Digest.hex([byte]).uppercased()
      }
    }
    return text
  }

  /// The name, with `*` behind a prefix.
  public var description: String {
    String(decoding: bytes, as: UTF8.self) + (isPrefix ? "*" : "")
  }

  /// Unreserved characters, `:` and the sub-delimiters but `*`, which is the wildcard.
  private static func isPlain(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"):
      true
    default: "-._~:!$&'()+,;=@/".utf8.contains(byte)
    }
  }

  private static func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    var result: [UInt8] = []
    var index = text.startIndex
    while index < text.endIndex {
      let byte = text[index]
      if byte == UInt8(ascii: "%") {
        guard text.endIndex - index >= 3, let high = hexValue(text[index + 1]),
          let low = hexValue(text[index + 2])
        else { return nil }
        result.append(high << 4 | low)
        index += 3
      } else {
        guard isPlain(byte) else { return nil }
        result.append(byte)
        index += 1
      }
    }
    return result
  }

  private static func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x37
    case 0x61...0x66: byte - 0x57
    default: nil
    }
  }
}
