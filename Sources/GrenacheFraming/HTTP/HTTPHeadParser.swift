/// Finds and takes apart the head of a message (RFC 9112 §2 to §5), the same for both directions.
struct HTTPHeadParser: Sendable {
  let limits: HTTPLimits
  let isRequest: Bool
  /// How far an incomplete head has been searched, from its start.
  private var searched = 0
  private var lineStart = 0
  private var lineCount = 0

  init(limits: HTTPLimits, isRequest: Bool) {
    self.limits = limits
    self.isRequest = isRequest
  }

  /// Looks for the empty line behind the head that starts at `start`; the end of the head, or `nil`
  /// while it is incomplete. Each byte is looked at once, however the head arrives.
  mutating func end(
    ofHeadAt start: Int, in window: Span<UInt8>
  ) throws(HTTPError) -> Int? {
    var index = start + searched
    while true {
      index = HTTPScan.lineFeed(window, from: index)
      guard index < window.count else { break }
      // In the order in which the bytes come, so that it does not matter how they are cut.
      let length = index - start - lineStart
      try checkLine(length)
      try checkHead(index - start)
      guard length > 0, window[index - 1] == cr else {
        throw HTTPError(400, "RFC 9112 §2.2", "a line that ends without CR LF")
      }
      try checkLine(length + 1)
      index += 1
      try checkHead(index - start)
      if length == 1, lineCount > 0 {
        reset()
        return index
      }
      lineCount += 1
      lineStart = index - start
      if lineCount > limits.fieldsMax + 1 {
        throw HTTPError(431, "RFC 6585 §5", "more than \(limits.fieldsMax) field lines")
      }
    }
    searched = index - start
    try checkLine(searched - lineStart)
    try checkHead(searched)
    return nil
  }

  private mutating func reset() {
    searched = 0
    lineStart = 0
    lineCount = 0
  }

  private func checkLine(_ count: Int) throws(HTTPError) {
    guard count > limits.lineBytesMax else { return }
    let isRequestLine = isRequest && lineCount == 0
    throw HTTPError(
      isRequestLine ? 414 : 431, isRequestLine ? "RFC 9112 §3" : "RFC 6585 §5",
      "a line of more than \(limits.lineBytesMax) bytes")
  }

  private func checkHead(_ count: Int) throws(HTTPError) {
    guard count > limits.headBytesMax else { return }
    throw HTTPError(431, "RFC 6585 §5", "a head of more than \(limits.headBytesMax) bytes")
  }

  /// Parses the field lines from `start` to the empty line before `end` into `fields`.
  func parseFields(
    _ window: Span<UInt8>, from start: Int, to end: Int, into fields: inout [HTTPFieldRange]
  ) throws(HTTPError) -> HTTPFramingFacts {
    fields.removeAll(keepingCapacity: true)
    var facts = HTTPFramingFacts()
    var index = start
    while index < end - 2 {
      let line = try parseField(window, at: &index)
      try facts.note(window.extracting(line.name), window.extracting(line.value))
      fields.append(line)
    }
    return facts
  }

  /// `field-name ":" OWS field-value OWS CRLF` (RFC 9112 §5).
  @inline(__always)
  private func parseField(
    _ window: Span<UInt8>, at index: inout Int
  ) throws(HTTPError) -> HTTPFieldRange {
    let nameStart = index
    index = HTTPScan.tokenEnd(window, from: index)
    guard index > nameStart, window[index] == colon else {
      throw badFieldName(window[index], isFirst: index == nameStart)
    }
    let name = nameStart..<index
    index += 1
    let valueStart = index
    repeat {
      index = HTTPScan.fieldValueEnd(window, from: index)
      guard window[index] == cr, window[index + 1] == lf else {
        throw HTTPError(400, "RFC 9110 §5.5", "a control character in a field value")
      }
      index += 2
    } while isFold(window, at: index)
    let value = HTTPFieldValue.trimmed(window, valueStart..<(index - 2))
    return HTTPFieldRange(name: name, value: value)
  }

  /// Whether the line at `index` continues the one before: clients take that from old servers, servers
  /// refuse it (RFC 9112 §5.2).
  @inline(__always)
  private func isFold(_ window: Span<UInt8>, at index: Int) -> Bool {
    !isRequest && (window[index] == space || window[index] == tab)
  }

  private func badFieldName(_ byte: UInt8, isFirst: Bool) -> HTTPError {
    if isFirst, byte == space || byte == tab {
      return HTTPError(400, "RFC 9112 §5.2", "a folded field line")
    }
    if byte == space || byte == tab {
      return HTTPError(400, "RFC 9112 §5.1", "white space before the colon of a field")
    }
    return HTTPError(400, "RFC 9110 §5.1", "an invalid field name")
  }
}
