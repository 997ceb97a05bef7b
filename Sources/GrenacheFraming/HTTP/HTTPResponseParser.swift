/// Parses responses (RFC 9112), for clients; the driver's rule is that of `HTTPRequestParser`.
///
///     head → body → over → (startNextCycle, expectResponse) → head …
///       ↘ upgraded
package struct HTTPResponseParser: Sendable {
  private enum State: Sendable {
    case head
    case body(HTTPBodyDecoder)
    case over
    case upgraded
  }

  /// Interim responses that may precede a final one.
  static let informationalMax = 16

  /// The head of the current message; its ranges hold until the window moves.
  package private(set) var head = HTTPHead()
  private var state = State.head
  private var headParser: HTTPHeadParser
  private let limits: HTTPLimits
  private var requestMethod = HTTPMethod.get
  private var mayUpgrade = false
  private var informationalCount = 0

  package init(limits: HTTPLimits) {
    self.limits = limits
    headParser = HTTPHeadParser(limits: limits, isRequest: false)
  }

  /// Says what has been asked for: a response to HEAD has no body, and nobody may switch protocols who
  /// was not asked to (RFC 9110 §7.8).
  package mutating func expectResponse(to method: HTTPMethod, mayUpgrade: Bool = false) {
    requestMethod = method
    self.mayUpgrade = mayUpgrade
    informationalCount = 0
  }

  /// Takes the next step.
  ///
  /// - Throws: `HTTPError`; nothing more can be parsed then: close.
  package mutating func next(
    _ window: Span<UInt8>, from offset: inout Int
  ) throws(HTTPError) -> HTTPStep {
    switch state {
    case .head:
      return try parseHead(window, from: &offset)
    case .body(var decoder):
      let step = try decoder.next(window, from: &offset)
      state = step == .end ? .over : .body(decoder)
      return HTTPStep(step)
    case .over:
      return .paused
    case .upgraded:
      return .upgraded
    }
  }

  /// After `end`: what follows is the next response.
  package mutating func startNextCycle() {
    if case .over = state { state = .head }
  }

  /// The stream has ended: `end` when that ends the body, `paused` between messages.
  ///
  /// - Throws: `HTTPError` in the middle of a message, which must not be taken for a whole one.
  package mutating func endOfStream() throws(HTTPError) -> HTTPStep {
    switch state {
    case .body(let decoder):
      guard decoder.isUntilClose else {
        throw HTTPError(400, "RFC 9112 §8", "the stream ended in the middle of a response")
      }
      state = .over
      return .end
    case .head, .over, .upgraded:
      return .paused
    }
  }

  private mutating func parseHead(
    _ window: Span<UInt8>, from offset: inout Int
  ) throws(HTTPError) -> HTTPStep {
    guard let end = try headParser.end(ofHeadAt: offset, in: window) else { return .needBytes }
    var index = offset
    try parseStatusLine(window, at: &index)
    let facts = try headParser.parseFields(window, from: index, to: end, into: &head.fields)
    try facts.check(head.version)
    offset = end
    if facts.hasTransferEncoding, head.status.code / 100 == 1 || head.status.code == 204 {
      throw HTTPError(400, "RFC 9112 §6.1", "Transfer-Encoding in a response without a body")
    }
    if head.status == .switchingProtocols {
      guard mayUpgrade else {
        throw HTTPError(400, "RFC 9110 §7.8", "a switch of protocols that was not asked for")
      }
      head.upgradesToWebSocket = facts.upgrades && facts.upgradeIsWebSocket
      state = .upgraded
      return .upgraded
    }
    if head.status.code / 100 == 1 {
      informationalCount += 1
      guard informationalCount <= Self.informationalMax else {
        throw HTTPError(400, "RFC 9110 §15.2", "too many interim responses")
      }
      return .informational
    }
    head.bodyLength = try bodyLength(facts)
    head.isKeepAlive = facts.isKeepAlive(head.version) && head.bodyLength != .untilClose
    state = .body(HTTPBodyDecoder(head.bodyLength, limits: limits))
    return .head
  }

  /// RFC 9112 §6.3.
  private func bodyLength(_ facts: HTTPFramingFacts) throws(HTTPError) -> HTTPBodyLength {
    if requestMethod == .head || head.status.hasNoBody { return .none }
    if facts.isChunked { return .chunked }
    guard let length = facts.contentLength else { return .untilClose }
    guard length <= limits.bodyBytesMax else {
      throw HTTPError(413, "RFC 9110 §15.5.14", "a body of more than \(limits.bodyBytesMax) bytes")
    }
    return .length(length)
  }

  /// `HTTP-version SP status-code SP [ reason-phrase ] CRLF` (RFC 9112 §4).
  private mutating func parseStatusLine(
    _ window: Span<UInt8>, at index: inout Int
  ) throws(HTTPError) {
    head.version = try HTTPVersionParser.parse(window, at: &index)
    guard window.count - index >= 6, window[index] == space else {
      throw HTTPError(400, "RFC 9112 §4", "an invalid status line")
    }
    var code = 0
    for position in (index + 1)...(index + 3) {
      guard HTTPCharacters.isDigit(window[position]) else {
        throw HTTPError(400, "RFC 9112 §4", "an invalid status code")
      }
      code = code * 10 + Int(window[position] &- 0x30)
    }
    guard (100...599).contains(code) else {
      throw HTTPError(400, "RFC 9110 §15", "a status code out of range")
    }
    index += 4
    // Servers that leave the space before an empty reason phrase out are forgiven.
    guard window[index] == space || window[index] == cr else {
      throw HTTPError(400, "RFC 9112 §4", "an invalid status code")
    }
    while HTTPCharacters.isFieldValue(window[index]) || window[index] >= 0x80 { index += 1 }
    guard window[index] == cr, window[index + 1] == lf else {
      throw HTTPError(400, "RFC 9112 §4", "a control character in the reason phrase")
    }
    index += 2
    head.status = HTTPStatus(code: code)
  }
}
