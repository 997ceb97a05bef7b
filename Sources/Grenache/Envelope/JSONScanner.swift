internal import GrenacheFraming

/// Finds where JSON values end (RFC 8259) without decoding them, in one pass and without recursion.
///
/// Depth is bounded by the width of a word, in which each level takes a bit: 64 levels of arrays and
/// objects.
package struct JSONScanner {
  /// How deep arrays and objects may be nested.
  package static let depthMax = 64

  /// Where the next token begins.
  private(set) var index: Int

  init(at start: Int) {
    index = start
  }

  /// Whether `bytes` are one JSON value with nothing but white space around it.
  package static func isOneValue(_ bytes: Span<UInt8>) -> Bool {
    var scanner = JSONScanner(at: 0)
    guard scanner.skipValue(bytes) != nil else { return false }
    scanner.skipSpace(bytes)
    return scanner.index == bytes.count
  }

  /// The byte at which the scanner stands, behind white space; `nil` at the end.
  mutating func peek(_ bytes: Span<UInt8>) -> UInt8? {
    skipSpace(bytes)
    return index < bytes.count ? bytes[index] : nil
  }

  /// Takes `byte` if it comes next, behind white space.
  mutating func take(_ byte: UInt8, _ bytes: Span<UInt8>) -> Bool {
    guard peek(bytes) == byte else { return false }
    index += 1
    return true
  }

  @inline(__always)
  mutating func skipSpace(_ bytes: Span<UInt8>) {
    while index < bytes.count {
      switch bytes[index] {
      case 0x20, 0x09, 0x0a, 0x0d: index += 1
      default: return
      }
    }
  }

  /// Skips one value; its range without white space, or `nil` if there is none.
  mutating func skipValue(_ bytes: Span<UInt8>) -> Range<Int>? {
    skipSpace(bytes)
    let start = index
    guard index < bytes.count else { return nil }
    switch bytes[index] {
    case 0x5b, 0x7b: return skipContainer(bytes) ? start..<index : nil
    default: return skipScalar(bytes) ? start..<index : nil
    }
  }

  // MARK: Containers

  /// Skips an array or object; `kinds` holds a bit for each open level, 1 for an object.
  private mutating func skipContainer(_ bytes: Span<UInt8>) -> Bool {
    var kinds: UInt64 = 0
    var depth = 0
    while true {
      skipSpace(bytes)
      guard index < bytes.count else { return false }
      let byte = bytes[index]
      if byte == 0x5b || byte == 0x7b {
        guard depth < Self.depthMax else { return false }
        index += 1
        kinds = kinds << 1 | (byte == 0x7b ? 1 : 0)
        depth += 1
        if take(byte == 0x7b ? 0x7d : 0x5d, bytes) {
          guard close(&kinds, &depth, bytes) else { return false }
        } else if byte == 0x7b {
          guard skipName(bytes) else { return false }
          continue
        } else {
          continue
        }
      } else {
        guard skipScalar(bytes), separate(&kinds, &depth, bytes) else { return false }
      }
      if depth == 0 { return true }
    }
  }

  /// A container has just ended: goes up, and on to what follows it.
  private mutating func close(
    _ kinds: inout UInt64, _ depth: inout Int, _ bytes: Span<UInt8>
  ) -> Bool {
    kinds >>= 1
    depth -= 1
    return depth == 0 || separate(&kinds, &depth, bytes)
  }

  /// Behind a value: a comma (and a name, in an object), or the ends of containers.
  private mutating func separate(
    _ kinds: inout UInt64, _ depth: inout Int, _ bytes: Span<UInt8>
  ) -> Bool {
    while depth > 0 {
      let isObject = kinds & 1 == 1
      if take(0x2c, bytes) { return !isObject || skipName(bytes) }
      guard take(isObject ? 0x7d : 0x5d, bytes) else { return false }
      kinds >>= 1
      depth -= 1
    }
    return true
  }

  /// `string ":"`
  private mutating func skipName(_ bytes: Span<UInt8>) -> Bool {
    guard peek(bytes) == 0x22, skipString(bytes) else { return false }
    return take(0x3a, bytes)
  }

  // MARK: Scalars

  private mutating func skipScalar(_ bytes: Span<UInt8>) -> Bool {
    switch bytes[index] {
    case 0x22: skipString(bytes)
    case 0x2d, 0x30...0x39: skipNumber(bytes)
    case 0x74: skipWord("true", bytes)
    case 0x66: skipWord("false", bytes)
    case 0x6e: skipWord("null", bytes)
    default: false
    }
  }

  private mutating func skipWord(_ word: StaticString, _ bytes: Span<UInt8>) -> Bool {
    let end = index + word.utf8CodeUnitCount
    guard end <= bytes.count, bytes.extracting(index..<end).equals(word) else { return false }
    index = end
    return true
  }

  /// Skips a string with its quotes. A control character has no place in one.
  mutating func skipString(_ bytes: Span<UInt8>) -> Bool {
    index += 1
    while index < bytes.count {
      switch bytes[index] {
      case 0x22:
        index += 1
        return true
      case 0x5c:
        guard skipEscape(bytes) else { return false }
      case 0x00..<0x20:
        return false
      default:
        index += 1
      }
    }
    return false
  }

  private mutating func skipEscape(_ bytes: Span<UInt8>) -> Bool {
    guard index + 1 < bytes.count else { return false }
    switch bytes[index + 1] {
    case 0x22, 0x5c, 0x2f, 0x62, 0x66, 0x6e, 0x72, 0x74:
      index += 2
      return true
    case 0x75:
      guard index + 6 <= bytes.count else { return false }
      for position in (index + 2)..<(index + 6) {
        switch bytes[position] {
        case 0x30...0x39, 0x41...0x46, 0x61...0x66: break
        default: return false
        }
      }
      index += 6
      return true
    default:
      return false
    }
  }

  private mutating func skipNumber(_ bytes: Span<UInt8>) -> Bool {
    if bytes[index] == 0x2d { index += 1 }
    guard index < bytes.count else { return false }
    if bytes[index] == 0x30 {
      index += 1
    } else {
      guard skipDigits(bytes) else { return false }
    }
    if index < bytes.count, bytes[index] == 0x2e {
      index += 1
      guard skipDigits(bytes) else { return false }
    }
    if index < bytes.count, bytes[index] | 0x20 == 0x65 {
      index += 1
      if index < bytes.count, bytes[index] == 0x2b || bytes[index] == 0x2d { index += 1 }
      guard skipDigits(bytes) else { return false }
    }
    return true
  }

  private mutating func skipDigits(_ bytes: Span<UInt8>) -> Bool {
    let start = index
    while index < bytes.count, bytes[index] &- 0x30 < 10 { index += 1 }
    return index > start
  }
}

extension Span<UInt8> {
  /// Whether the bytes are those of `text`.
  func equals(_ text: StaticString) -> Bool {
    text.withUTF8Buffer { buffer in
      guard count == buffer.count else { return false }
      for index in indices where unsafe self[index] != buffer[index] { return false }
      return true
    }
  }
}
