/// The character classes of RFC 9110 §5.6 and RFC 3986 as bit sets of the ASCII codes.
enum HTTPCharacters {
  /// `tchar` (RFC 9110 §5.6.2).
  @inline(__always)
  static func isToken(_ byte: UInt8) -> Bool {
    contains(byte, low: 0x03ff_6cfa_0000_0000, high: 0x57ff_ffff_c7ff_fffe)
  }

  /// What a request target is made of (RFC 9112 §3.2): RFC 3986 characters, encoded where needed.
  @inline(__always)
  static func isTarget(_ byte: UInt8) -> Bool {
    contains(byte, low: 0xafff_fff2_0000_0000, high: 0x47ff_fffe_afff_ffff)
  }

  /// What a host name is made of beside encoded bytes (RFC 3986 §3.2.2).
  @inline(__always)
  static func isHostName(_ byte: UInt8) -> Bool {
    contains(byte, low: 0x2bff_7fd2_0000_0000, high: 0x47ff_fffe_87ff_fffe)
  }

  /// What the names of all registered methods are made of.
  @inline(__always)
  static func isMethod(_ byte: UInt8) -> Bool {
    contains(byte, low: 0x0000_2000_0000_0000, high: 0x0000_0000_87ff_fffe)
  }

  /// `field-vchar`, space and tab (RFC 9110 §5.5): no control character, NUL or DEL.
  @inline(__always)
  static func isFieldValue(_ byte: UInt8) -> Bool {
    byte >= 0x20 ? byte != 0x7f : byte == 0x09
  }

  @inline(__always)
  static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

  /// The value of a hexadecimal digit.
  @inline(__always)
  static func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte &- 0x30
    case 0x41...0x46: byte &- 0x37
    case 0x61...0x66: byte &- 0x57
    default: nil
    }
  }

  /// The lower-case form of an ASCII letter; other bytes as they are.
  @inline(__always)
  static func lowercased(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
  }

  @inline(__always)
  private static func contains(_ byte: UInt8, low: UInt64, high: UInt64) -> Bool {
    let word = byte < 64 ? low : high
    return byte < 128 && word >> UInt64(byte & 63) & 1 == 1
  }
}

let cr: UInt8 = 0x0d
let lf: UInt8 = 0x0a
let space: UInt8 = 0x20
let tab: UInt8 = 0x09
let colon: UInt8 = 0x3a
let comma: UInt8 = 0x2c
let semicolon: UInt8 = 0x3b
let equalsSign: UInt8 = 0x3d
let quotationMark: UInt8 = 0x22
let backslash: UInt8 = 0x5c
let slash: UInt8 = 0x2f
let questionMark: UInt8 = 0x3f
let percent: UInt8 = 0x25
