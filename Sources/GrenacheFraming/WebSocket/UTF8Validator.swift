/// Validates UTF-8 (RFC 3629) as it comes, however it is cut; it fails at the first byte that cannot
/// continue what came before.
struct UTF8Validator: Sendable {
  /// Continuation bytes that are still to come.
  private var pending: UInt8 = 0
  /// What the next continuation byte must lie between.
  private var lower: UInt8 = 0x80
  private var upper: UInt8 = 0xbf

  /// Whether the text may end here.
  var isComplete: Bool { pending == 0 }

  /// Takes the bytes of `range`; returns whether all can stand where they stand.
  @inline(__always)
  mutating func append(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
    var index = range.lowerBound
    let end = range.upperBound
    while pending > 0, index < end {
      guard take(bytes[index]) else { return false }
      index += 1
    }
    if index == end { return true }
    return appendFromBoundary(bytes, index..<end)
  }

  /// The same where a character begins: whole characters by words, and what is left byte by byte.
  private mutating func appendFromBoundary(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
    var index = Self.skipWhole(bytes, range)
    while index < range.upperBound {
      guard take(bytes[index]) else { return false }
      index += 1
    }
    return true
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    if pending > 0 {
      guard byte >= lower, byte <= upper else { return false }
      pending -= 1
      lower = 0x80
      upper = 0xbf
      return true
    }
    switch byte {
    case 0x00...0x7f: return true
    case 0xc2...0xdf: pending = 1
    case 0xe0: (pending, lower) = (2, 0xa0)
    case 0xed: (pending, upper) = (2, 0x9f)
    case 0xe1...0xec, 0xee, 0xef: pending = 2
    case 0xf0: (pending, lower) = (3, 0x90)
    case 0xf1...0xf3: pending = 3
    case 0xf4: (pending, upper) = (3, 0x8f)
    default: return false
    }
    return true
  }

  /// Where the first character begins that is not valid, or not whole with 4 bytes to look at.
  private static func skipWhole(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
    precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
    // The range was checked against the span, and each load against the range.
    return unsafe bytes.withUnsafeBufferPointer { buffer in
      let raw = UnsafeRawBufferPointer(buffer)
      var index = range.lowerBound
      let end = range.upperBound
      while end - index >= 4 {
        unsafe skipASCII(raw, &index, end)
        guard end - index >= 4 else { break }
        // Texts that are not ASCII have runs of characters that are not.
        while end - index >= 4 {
          let word = unsafe UInt32(
            littleEndian: raw.loadUnaligned(fromByteOffset: index, as: UInt32.self))
          let count = characterBytes(word)
          if count == 0 { return index }
          index += count
          if count == 1 { break }
        }
      }
      while index < end, unsafe raw[index] < 0x80 { index += 1 }
      return index
    }
  }

  /// Moves `index` over ASCII: 64 bytes at a time, then 8.
  @inline(__always)
  private static func skipASCII(
    _ raw: UnsafeRawBufferPointer, _ index: inout Int, _ end: Int
  ) {
    while end - index >= 64 {
      let value = unsafe raw.loadUnaligned(fromByteOffset: index, as: SIMD8<UInt64>.self)
      let any = value.lowHalf | value.highHalf
      let two = any.lowHalf | any.highHalf
      if (two.x | two.y) & 0x8080_8080_8080_8080 != 0 { break }
      index += 64
    }
    while end - index >= 8 {
      let word = unsafe UInt64(
        littleEndian: raw.loadUnaligned(fromByteOffset: index, as: UInt64.self))
      let high = word & 0x8080_8080_8080_8080
      if high != 0 {
        index += high.trailingZeroBitCount >> 3
        return
      }
      index += 8
    }
  }

  /// How many bytes the character has with which `word` begins, its first byte lowest; 0 if it is none
  /// (RFC 3629 §4).
  @inline(__always)
  private static func characterBytes(_ word: UInt32) -> Int {
    if word & 0x80 == 0 { return 1 }
    if word & 0xc0e0 == 0x80c0 { return word & 0x1e == 0 ? 0 : 2 }
    if word & 0xc0_c0f0 == 0x80_80e0 {
      // Neither shorter than needed nor a surrogate: the top five bits of what is encoded say so.
      let top = (word & 0x0f) << 1 | word >> 13 & 1
      return top == 0 || top == 0x1b ? 0 : 3
    }
    if word & 0xc0c0_c0f8 == 0x8080_80f0 {
      let top = (word & 0x07) << 2 | word >> 12 & 3
      return top == 0 || top > 0x10 ? 0 : 4
    }
    return 0
  }
}

/// Whether `bytes` are UTF-8, on the whole.
package func isValidUTF8(_ bytes: Span<UInt8>) -> Bool {
  var validator = UTF8Validator()
  return validator.append(bytes, 0..<bytes.count) && validator.isComplete
}
