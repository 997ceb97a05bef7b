/// Masking (RFC 6455 §5.3): the same operation puts a mask on and takes it off.
enum WebSocketMask {
  /// Applies `key` to the bytes of `range`, eight at a time.
  ///
  /// - Parameter position: where in the payload the range begins.
  @inline(__always)
  static func apply(
    _ key: UInt32, to bytes: inout MutableSpan<UInt8>, in range: Range<Int>, position: Int = 0
  ) {
    guard key != 0, !range.isEmpty else { return }
    precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
    let rotated = rotate(key, by: position)
    // The range was checked against the span: every access below stays within it.
    unsafe bytes.withUnsafeMutableBufferPointer { buffer in
      unsafe apply(
        rotated,
        to: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[range]))
    }
  }

  /// The key as it applies from `position` on.
  @inline(__always)
  static func rotate(_ key: UInt32, by position: Int) -> UInt32 {
    let bits = UInt32(position & 3) * 8
    return bits == 0 ? key : key >> bits | key << (32 - bits)
  }

  @inline(__always)
  private static func apply(_ key: UInt32, to bytes: UnsafeMutableRawBufferPointer) {
    let count = bytes.count
    let word = UInt64(key) | UInt64(key) << 32
    var index = 0
    if count >= 64 {
      let vector = SIMD8<UInt64>(repeating: word.littleEndian)
      while count - index >= 64 {
        let value = unsafe bytes.loadUnaligned(fromByteOffset: index, as: SIMD8<UInt64>.self)
        unsafe bytes.storeBytes(of: value ^ vector, toByteOffset: index, as: SIMD8<UInt64>.self)
        index += 64
      }
    }
    while count - index >= 8 {
      let value = unsafe bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      unsafe bytes.storeBytes(of: value ^ word.littleEndian, toByteOffset: index, as: UInt64.self)
      index += 8
    }
    while index < count {
      unsafe bytes[index] ^= UInt8(truncatingIfNeeded: key >> (UInt32(index & 3) * 8))
      index += 1
    }
  }
}
