/// Which fields must not come behind a body, because they were needed before it (RFC 9110 §6.5.1).
enum HTTPTrailer {
  static func isForbidden(_ name: Span<UInt8>) -> Bool {
    switch name.count {
    case 2: name.equalsIgnoringCase("te")
    case 4: name.equalsIgnoringCase("host")
    case 6: name.equalsIgnoringCase("expect") || name.equalsIgnoringCase("cookie")
    case 7: name.equalsIgnoringCase("upgrade") || name.equalsIgnoringCase("trailer")
    case 10: name.equalsIgnoringCase("connection") || name.equalsIgnoringCase("set-cookie")
    case 12: name.equalsIgnoringCase("content-type")
    case 13: name.equalsIgnoringCase("authorization") || name.equalsIgnoringCase("content-range")
    case 14: name.equalsIgnoringCase("content-length")
    case 16: name.equalsIgnoringCase("content-encoding")
    case 17: name.equalsIgnoringCase("transfer-encoding")
    default: false
    }
  }
}

/// Finds the end of a body (RFC 9112 §6 and §7), whole or in chunks, as it comes.
///
///     length → done        chunkSize → chunkData → chunkEnd → chunkSize … → trailers → done
struct HTTPBodyDecoder: Sendable {
  enum Step: Hashable {
    case data(Range<Int>)
    case end
    case needBytes
  }

  private enum State: Hashable {
    case length(left: Int)
    case chunkSize
    case chunkData(left: Int)
    case chunkEnd
    case trailers(seen: Int)
    case untilClose
    case done
  }
  private var state: State
  private let limits: HTTPLimits
  private var received = 0

  init(_ length: HTTPBodyLength, limits: HTTPLimits) {
    self.limits = limits
    switch length {
    case .none: state = .done
    case .length(let count): state = count > 0 ? .length(left: count) : .done
    case .chunked: state = .chunkSize
    case .untilClose: state = .untilClose
    }
  }

  var isUntilClose: Bool { state == .untilClose }

  mutating func next(
    _ window: Span<UInt8>, from offset: inout Int
  ) throws(HTTPError) -> Step {
    while true {
      switch state {
      case .done:
        return .end
      case .length(let left):
        guard let range = take(window, from: &offset, atMost: left) else { return .needBytes }
        state = range.count == left ? .done : .length(left: left - range.count)
        return .data(range)
      case .chunkData(let left):
        guard let range = take(window, from: &offset, atMost: left) else { return .needBytes }
        state = range.count == left ? .chunkEnd : .chunkData(left: left - range.count)
        return .data(range)
      case .untilClose:
        guard offset < window.count else { return .needBytes }
        // All that is allowed comes before the error, however the input is cut.
        let left = limits.bodyBytesMax - received
        guard let range = take(window, from: &offset, atMost: left) else { throw tooLarge }
        received += range.count
        return .data(range)
      case .chunkSize:
        guard let size = try chunkSize(window, from: &offset) else { return .needBytes }
        try count(size)
        state = size == 0 ? .trailers(seen: 0) : .chunkData(left: size)
      case .chunkEnd:
        guard window.count - offset >= 2 else {
          try checkChunkEnd(window, offset)
          return .needBytes
        }
        try checkChunkEnd(window, offset)
        offset += 2
        state = .chunkSize
      case .trailers(let seen):
        guard let length = try trailerLine(window, from: &offset, seen: seen) else {
          return .needBytes
        }
        state = length == 2 ? .done : .trailers(seen: seen + length)
      }
    }
  }

  private func take(
    _ window: Span<UInt8>, from offset: inout Int, atMost limit: Int
  ) -> Range<Int>? {
    let count = min(window.count - offset, limit)
    guard count > 0 else { return nil }
    offset += count
    return (offset - count)..<offset
  }

  private mutating func count(_ bytes: Int) throws(HTTPError) {
    let (sum, overflow) = received.addingReportingOverflow(bytes)
    guard !overflow, sum <= limits.bodyBytesMax else { throw tooLarge }
    received = sum
  }

  private var tooLarge: HTTPError {
    HTTPError(413, "RFC 9110 §15.5.14", "a body of more than \(limits.bodyBytesMax) bytes")
  }

  private func checkChunkEnd(_ window: Span<UInt8>, _ offset: Int) throws(HTTPError) {
    let available = min(window.count - offset, 2)
    guard available < 1 || window[offset] == cr, available < 2 || window[offset + 1] == lf else {
      throw HTTPError(400, "RFC 9112 §7.1", "a chunk that does not end with CR LF")
    }
  }

  /// `chunk-size [ chunk-ext ] CRLF` (RFC 9112 §7.1): hexadecimal, no sign, no space, no prefix.
  private func chunkSize(
    _ window: Span<UInt8>, from offset: inout Int
  ) throws(HTTPError) -> Int? {
    guard let end = try lineEnd(window, offset, limits.chunkLineBytesMax, status: 400) else {
      return nil
    }
    var index = offset
    var size = 0
    while let digit = HTTPCharacters.hexValue(window[index]) {
      let (shifted, overflow) = size.multipliedReportingOverflow(by: 16)
      guard !overflow else {
        throw HTTPError(413, "RFC 9112 §7.1", "a chunk size beyond all numbers")
      }
      size = shifted | Int(digit)
      index += 1
    }
    guard index > offset else { throw HTTPError(400, "RFC 9112 §7.1", "an invalid chunk size") }
    try checkExtensions(window, index..<(end - 2))
    offset = end
    return size
  }

  /// Extensions are ignored, but what stands there must be some (RFC 9112 §7.1.1):
  /// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`
  private func checkExtensions(
    _ window: Span<UInt8>, _ range: Range<Int>
  ) throws(HTTPError) {
    var index = range.lowerBound
    while index < range.upperBound {
      skipSpaces(window, &index, range.upperBound)
      guard skip(semicolon, window, &index, range.upperBound) else { throw Self.badExtension }
      skipSpaces(window, &index, range.upperBound)
      guard skipToken(window, &index, range.upperBound) else { throw Self.badExtension }
      let end = index
      skipSpaces(window, &index, range.upperBound)
      guard skip(equalsSign, window, &index, range.upperBound) else {
        index = end
        continue
      }
      skipSpaces(window, &index, range.upperBound)
      guard
        skipToken(window, &index, range.upperBound)
          || skipQuotedString(window, &index, range.upperBound)
      else { throw Self.badExtension }
    }
  }

  private static var badExtension: HTTPError {
    HTTPError(400, "RFC 9112 §7.1.1", "an invalid chunk size or extension")
  }

  private func skipSpaces(_ window: Span<UInt8>, _ index: inout Int, _ end: Int) {
    while index < end, window[index] == space || window[index] == tab { index += 1 }
  }

  private func skip(
    _ byte: UInt8, _ window: Span<UInt8>, _ index: inout Int, _ end: Int
  ) -> Bool {
    guard index < end, window[index] == byte else { return false }
    index += 1
    return true
  }

  private func skipToken(_ window: Span<UInt8>, _ index: inout Int, _ end: Int) -> Bool {
    let start = index
    while index < end, HTTPCharacters.isToken(window[index]) { index += 1 }
    return index > start
  }

  /// `quoted-string` (RFC 9110 §5.6.4).
  private func skipQuotedString(_ window: Span<UInt8>, _ index: inout Int, _ end: Int) -> Bool {
    guard skip(quotationMark, window, &index, end) else { return false }
    while index < end, HTTPCharacters.isFieldValue(window[index]) {
      if window[index] == quotationMark {
        index += 1
        return true
      }
      if window[index] == backslash { index += 1 }
      guard index < end, HTTPCharacters.isFieldValue(window[index]) else { return false }
      index += 1
    }
    return false
  }

  /// Checks and skips one trailer line or the empty line; its length with CR LF.
  private func trailerLine(
    _ window: Span<UInt8>, from offset: inout Int, seen: Int
  ) throws(HTTPError) -> Int? {
    let left = limits.trailerBytesMax - seen
    guard let end = try lineEnd(window, offset, left, status: 431) else { return nil }
    let length = end - offset
    if length > 2 {
      var index = offset
      while HTTPCharacters.isToken(window[index]) { index += 1 }
      guard index > offset, window[index] == colon else {
        throw HTTPError(400, "RFC 9112 §7.1.2", "an invalid trailer field")
      }
      guard !HTTPTrailer.isForbidden(window.extracting(offset..<index)) else {
        throw HTTPError(400, "RFC 9110 §6.5.1", "a trailer field that belongs into the head")
      }
      for position in index..<(end - 2) where !HTTPCharacters.isFieldValue(window[position]) {
        throw HTTPError(400, "RFC 9112 §7.1.2", "a control character in a trailer field")
      }
    }
    offset = end
    return length
  }

  /// The end of the line at `offset`, behind its CR LF.
  private func lineEnd(
    _ window: Span<UInt8>, _ offset: Int, _ bytesMax: Int, status: Int
  ) throws(HTTPError) -> Int? {
    var index = offset
    while index < window.count {
      if index - offset >= max(bytesMax, 2) {
        throw HTTPError(status, "RFC 9112 §7.1", "a line of more than \(bytesMax) bytes")
      }
      if window[index] == lf {
        guard index > offset, window[index - 1] == cr else {
          throw HTTPError(400, "RFC 9112 §7.1", "a line that ends without CR LF")
        }
        return index + 1
      }
      index += 1
    }
    return nil
  }
}
