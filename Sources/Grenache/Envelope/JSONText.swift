internal import GrenacheFraming

/// Strings as JSON text, both ways.
extension [UInt8] {
  /// A string with its quotes, escaped as `JSON.stringify` does: quotes, backslashes and control
  /// characters only.
  package mutating func appendJSONString(_ text: String) {
    append(0x22)
    for byte in text.utf8 {
      switch byte {
      case 0x22: append(contentsOf: "\\\"".utf8)
      case 0x5c: append(contentsOf: "\\\\".utf8)
      case 0x08: append(contentsOf: "\\b".utf8)
      case 0x09: append(contentsOf: "\\t".utf8)
      case 0x0a: append(contentsOf: "\\n".utf8)
      case 0x0c: append(contentsOf: "\\f".utf8)
      case 0x0d: append(contentsOf: "\\r".utf8)
      case 0x00..<0x20:
        append(contentsOf: "\\u00".utf8)
        append(hexDigit(byte >> 4))
        append(hexDigit(byte & 15))
      default: append(byte)
      }
    }
    append(0x22)
  }

  private func hexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? 0x30 + value : 0x57 + value
  }
}

enum JSONText {
  /// Whether `bytes` can be sent as a value: one JSON value in UTF-8. A peer breaks off a connection over
  /// which it gets text that is none, and existing ones end their process.
  static func isSendable(_ bytes: Span<UInt8>) -> Bool {
    JSONScanner.isOneValue(bytes) && isValidUTF8(bytes)
  }

  /// The string that the content between the quotes of a valid JSON string stands for. A lone
  /// surrogate becomes U+FFFD.
  static func string(_ content: Span<UInt8>) -> String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(content.count)
    var index = 0
    while index < content.count {
      guard content[index] == 0x5c, index + 1 < content.count else {
        bytes.append(content[index])
        index += 1
        continue
      }
      if content[index + 1] == 0x75 {
        bytes.append(contentsOf: unicodeEscape(content, &index))
      } else {
        bytes.append(simpleEscape(content[index + 1]))
        index += 2
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func simpleEscape(_ byte: UInt8) -> UInt8 {
    switch byte {
    case 0x62: 0x08
    case 0x66: 0x0c
    case 0x6e: 0x0a
    case 0x72: 0x0d
    case 0x74: 0x09
    default: byte
    }
  }

  /// Takes `\uXXXX`, or two of them that are a surrogate pair.
  private static func unicodeEscape(_ content: Span<UInt8>, _ index: inout Int) -> [UInt8] {
    let first = unit(content, at: index + 2)
    index += 6
    var scalar = UInt32(first)
    if 0xd800..<0xdc00 ~= scalar, index + 6 <= content.count, content[index] == 0x5c,
      content[index + 1] == 0x75
    {
      let second = UInt32(unit(content, at: index + 2))
      if 0xdc00..<0xe000 ~= second {
        index += 6
        scalar = 0x10000 + (scalar - 0xd800) << 10 + (second - 0xdc00)
      }
    }
    let character = Unicode.Scalar(scalar) ?? "\u{fffd}"
    return Array(String(Character(character)).utf8)
  }

  private static func unit(_ content: Span<UInt8>, at start: Int) -> UInt16 {
    var value: UInt16 = 0
    for index in start..<min(start + 4, content.count) {
      let byte = content[index]
      let digit = byte <= 0x39 ? byte &- 0x30 : (byte | 0x20) &- 0x57
      value = value << 4 | UInt16(digit & 15)
    }
    return value
  }
}
