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
        guard let range = take(window, from: &offset, atMost: .max) else { return .needBytes }
        try count(range.count)
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
    guard !overflow, sum <= limits.bodyBytesMax else {
      throw HTTPError(413, "RFC 9110 §15.5.14", "a body of more than \(limits.bodyBytesMax) bytes")
    }
    received = sum
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

  /// Extensions are ignored, but what stands there must be one (RFC 9112 §7.1.1).
  private func checkExtensions(
    _ window: Span<UInt8>, _ range: Range<Int>
  ) throws(HTTPError) {
    guard !range.isEmpty else { return }
    guard window[range.lowerBound] == 0x3b else {
      throw HTTPError(400, "RFC 9112 §7.1", "an invalid chunk size")
    }
    for index in range where !HTTPCharacters.isFieldValue(window[index]) {
      throw HTTPError(400, "RFC 9112 §7.1.1", "a control character in a chunk extension")
    }
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
