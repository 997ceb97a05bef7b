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
    while index < end {
      if pending == 0 {
        index = Self.skipASCII(bytes, index..<end)
        if index == end { return true }
      }
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

  /// The first byte of `range` that is not ASCII, or its end; eight bytes at a time.
  @inline(__always)
  private static func skipASCII(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
    precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
    // The range was checked against the span: every access below stays within it.
    return unsafe bytes.withUnsafeBufferPointer { buffer in
      let raw = UnsafeRawBufferPointer(buffer)
      var index = range.lowerBound
      while range.upperBound - index >= 8 {
        let word = unsafe raw.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        if word & 0x8080_8080_8080_8080 != 0 { break }
        index += 8
      }
      while index < range.upperBound, unsafe raw[index] < 0x80 { index += 1 }
      return index
    }
  }
}

/// Whether `bytes` are UTF-8, on the whole.
package func isValidUTF8(_ bytes: Span<UInt8>) -> Bool {
  var validator = UTF8Validator()
  return validator.append(bytes, 0..<bytes.count) && validator.isComplete
}
