/// What the driver does next.
package enum HTTPStep: Hashable, Sendable {
  /// A head has come; see the parser's `head`.
  case head
  /// A final response to an upgrade: what follows belongs to the next protocol.
  case upgraded
  /// An interim response (1xx), which is done with.
  case informational
  /// A part of the body, without its framing.
  case body(Range<Int>)
  /// The message is over.
  case end
  /// More bytes, or the end of the stream.
  case needBytes
  /// The message is over and `startNextCycle` has not been called.
  case paused
}

/// Parses requests (RFC 9112), for servers.
///
/// `next` is given a window with every byte that is not consumed, and moves `offset` past what it has
/// consumed. After `needBytes` the driver keeps the rest and gives it again with more behind it: at
/// most one head, one chunk-size line or one trailer line.
///
///     head → body → over → (startNextCycle) → head …
package struct HTTPRequestParser: Sendable {
  private enum State: Sendable {
    case head
    case body(HTTPBodyDecoder)
    case over
  }

  /// The head of the current message; its ranges hold until the window moves.
  package private(set) var head = HTTPHead()
  private var state = State.head
  private var headParser: HTTPHeadParser
  private let limits: HTTPLimits

  package init(limits: HTTPLimits) {
    self.limits = limits
    headParser = HTTPHeadParser(limits: limits, isRequest: true)
  }

  /// Takes the next step.
  ///
  /// - Throws: `HTTPError`; nothing more can be parsed then: answer and close.
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
    }
  }

  /// After `end`: what follows is the next request.
  package mutating func startNextCycle() {
    if case .over = state { state = .head }
  }

  private mutating func parseHead(
    _ window: Span<UInt8>, from offset: inout Int
  ) throws(HTTPError) -> HTTPStep {
    // One empty line before a request is forgiven (RFC 9112 §2.2).
    if window.count - offset >= 2, window[offset] == cr, window[offset + 1] == lf { offset += 2 }
    if window.count - offset == 1, window[offset] == cr { return .needBytes }
    guard let end = try headParser.end(ofHeadAt: offset, in: window) else { return .needBytes }
    var index = offset
    try parseRequestLine(window, at: &index)
    let facts = try headParser.parseFields(window, from: index, to: end, into: &head.fields)
    try apply(facts)
    offset = end
    state = .body(HTTPBodyDecoder(head.bodyLength, limits: limits))
    return .head
  }

  private mutating func apply(_ facts: HTTPFramingFacts) throws(HTTPError) {
    try facts.check(head.version)
    if facts.hostCount > 1 || (facts.hostCount == 0 && head.version == .http11) {
      throw HTTPError(400, "RFC 9112 §3.2", "not exactly one Host")
    }
    if let length = facts.contentLength, length > limits.bodyBytesMax {
      throw HTTPError(413, "RFC 9110 §15.5.14", "a body of more than \(limits.bodyBytesMax) bytes")
    }
    head.bodyLength = facts.isChunked ? .chunked : facts.contentLength.map { .length($0) } ?? .none
    head.isKeepAlive = facts.isKeepAlive(head.version)
    head.expectsContinue =
      facts.expectsContinue && head.version == .http11 && head.bodyLength != .none
    head.upgradesToWebSocket =
      facts.upgrades && facts.upgradeIsWebSocket && head.version == .http11
      && (head.bodyLength == .none || head.bodyLength == .length(0))
  }

  /// `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3).
  private mutating func parseRequestLine(
    _ window: Span<UInt8>, at index: inout Int
  ) throws(HTTPError) {
    let methodStart = index
    while HTTPCharacters.isToken(window[index]) { index += 1 }
    guard index > methodStart, index - methodStart <= 32, window[index] == space else {
      throw HTTPError(400, "RFC 9112 §3.1", "an invalid method")
    }
    head.method = HTTPMethod(window.extracting(methodStart..<index))
    index += 1
    let targetStart = index
    while HTTPCharacters.isTarget(window[index]) { index += 1 }
    guard index > targetStart, window[index] == space else {
      throw HTTPError(400, "RFC 9112 §3.2", "an invalid request target")
    }
    head.target = targetStart..<index
    try checkTargetForm(window.extracting(head.target))
    index += 1
    head.version = try HTTPVersionParser.parse(window, at: &index)
    guard window[index] == cr, window[index + 1] == lf else {
      throw HTTPError(400, "RFC 9112 §3", "an invalid request line")
    }
    index += 2
  }

  /// The four forms of a target (RFC 9112 §3.2): origin, absolute, authority, asterisk.
  private func checkTargetForm(_ target: Span<UInt8>) throws(HTTPError) {
    let first = target[0]
    if head.method == .connect {
      guard first != 0x2f else {
        throw HTTPError(400, "RFC 9112 §3.2.3", "CONNECT without an authority")
      }
    } else if first == 0x2a {
      guard target.count == 1, head.method == .options else {
        throw HTTPError(400, "RFC 9112 §3.2.4", "an asterisk that is not OPTIONS *")
      }
    } else if first != 0x2f {
      let isAbsolute =
        target.count > 7 && target.extracting(0..<7).equalsIgnoringCase("http://")
        || target.count > 8 && target.extracting(0..<8).equalsIgnoringCase("https://")
      guard isAbsolute else {
        throw HTTPError(400, "RFC 9112 §3.2", "a request target of no known form")
      }
    }
  }
}

extension HTTPStep {
  init(_ step: HTTPBodyDecoder.Step) {
    switch step {
    case .data(let range): self = .body(range)
    case .end: self = .end
    case .needBytes: self = .needBytes
    }
  }
}

/// `HTTP-version` (RFC 9112 §2.3).
enum HTTPVersionParser {
  @inline(__always)
  static func parse(
    _ window: Span<UInt8>, at index: inout Int
  ) throws(HTTPError) -> HTTPVersion {
    guard window.count - index >= 8, window[index] == 0x48, window[index + 1] == 0x54,
      window[index + 2] == 0x54, window[index + 3] == 0x50, window[index + 4] == 0x2f,
      HTTPCharacters.isDigit(window[index + 5]), window[index + 6] == 0x2e,
      HTTPCharacters.isDigit(window[index + 7])
    else { throw HTTPError(400, "RFC 9112 §2.3", "an invalid HTTP version") }
    let major = window[index + 5]
    let minor = window[index + 7]
    guard major == 0x31, minor == 0x30 || minor == 0x31 else {
      throw HTTPError(505, "RFC 9110 §15.6.6", "an HTTP version other than 1.0 and 1.1")
    }
    index += 8
    return minor == 0x31 ? .http11 : .http10
  }
}
