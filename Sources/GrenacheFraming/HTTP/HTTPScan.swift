/// Finds where runs of bytes end, by words and tables: what makes the parser fast.
///
/// Each function looks at `window` from `start` on, and returns its count when the run does not end.
enum HTTPScan {
  /// The next line feed.
  @inline(__always)
  static func lineFeed(_ window: Span<UInt8>, from start: Int) -> Int {
    scan(window, from: start) { word in
      zeros(word ^ 0x0a0a_0a0a_0a0a_0a0a)
    } one: {
      $0 == lf
    }
  }

  /// The next byte that no field value has (RFC 9110 §5.5).
  @inline(__always)
  static func fieldValueEnd(_ window: Span<UInt8>, from start: Int) -> Int {
    var index = start
    while true {
      index = scan(window, from: index) { word in
        below20(word) | zeros(word ^ 0x7f7f_7f7f_7f7f_7f7f)
      } one: {
        $0 < 0x20 || $0 == 0x7f
      }
      guard index < window.count, window[index] == tab else { return index }
      index += 1
    }
  }

  /// The next byte that no token has (RFC 9110 §5.6.2).
  @inline(__always)
  static func tokenEnd(_ window: Span<UInt8>, from start: Int) -> Int {
    var index = start
    while true {
      // Names are made of letters and hyphens, nearly always.
      index = scan(window, from: index, flags: notNameLike) { !HTTPCharacters.isToken($0) }
      guard index < window.count, HTTPCharacters.isToken(window[index]) else { return index }
      index += 1
    }
  }

  /// The next byte that no request target has, or the next percent sign.
  @inline(__always)
  static func targetEnd(_ window: Span<UInt8>, from start: Int) -> Int {
    var index = start
    while index < window.count, HTTPCharacters.isTarget(window[index]), window[index] != percent {
      index += 1
    }
    return index
  }

  /// `flags` sets the high bit of each byte that ends the run, at least of the first; `one` says it of a
  /// byte alone.
  @inline(__always)
  private static func scan(
    _ window: Span<UInt8>, from start: Int, flags: (UInt64) -> UInt64, one: (UInt8) -> Bool
  ) -> Int {
    precondition(start >= 0 && start <= window.count)
    // Every load lies between `start` and the count.
    return unsafe window.withUnsafeBufferPointer { buffer in
      let raw = UnsafeRawBufferPointer(buffer)
      var index = start
      while buffer.count - index >= 8 {
        let word = unsafe raw.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        let found = flags(UInt64(littleEndian: word))
        if found != 0 { return index + found.trailingZeroBitCount >> 3 }
        index += 8
      }
      while index < buffer.count, unsafe !one(buffer[index]) { index += 1 }
      return index
    }
  }

  /// The high bit of each byte that is neither an ASCII letter nor a hyphen.
  @inline(__always)
  private static func notNameLike(_ word: UInt64) -> UInt64 {
    let low = 0x7f7f_7f7f_7f7f_7f7f as UInt64
    let folded = (word | 0x2020_2020_2020_2020) & low
    let fromA = folded &+ 0x1f1f_1f1f_1f1f_1f1f  // the high bit: not below "a"
    let beyondZ = folded &+ 0x0505_0505_0505_0505  // the high bit: above "z"
    let noHyphen = ((word ^ 0x2d2d_2d2d_2d2d_2d2d) & low) &+ low  // the high bit: another byte
    return (word | (~fromA | beyondZ) & noHyphen) & ~low
  }

  /// The high bit of each byte that is zero; above the first one it may err.
  @inline(__always)
  private static func zeros(_ word: UInt64) -> UInt64 {
    (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
  }

  /// The high bit of each byte below 0x20; above the first one it may err.
  @inline(__always)
  private static func below20(_ word: UInt64) -> UInt64 {
    (word &- 0x2020_2020_2020_2020) & ~word & 0x8080_8080_8080_8080
  }
}
