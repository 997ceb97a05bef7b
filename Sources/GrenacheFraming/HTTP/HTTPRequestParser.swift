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
  private var hasSkippedEmptyLine = false
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
    if !hasSkippedEmptyLine, window.count > offset, window[offset] == cr {
      guard window.count - offset >= 2 else { return .needBytes }
      if window[offset + 1] == lf {
        offset += 2
        hasSkippedEmptyLine = true
      }
    }
    guard let end = try headParser.end(ofHeadAt: offset, in: window) else { return .needBytes }
    var index = offset
    try parseRequestLine(window, at: &index)
    let facts = try headParser.parseFields(window, from: index, to: end, into: &head.fields)
    try apply(facts)
    try checkAuthority(window)
    offset = end
    hasSkippedEmptyLine = false
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
      && head.bodyLength != .length(0)
    head.upgradesToWebSocket =
      facts.upgrades && facts.upgradeIsWebSocket && head.version == .http11
      && (head.bodyLength == .none || head.bodyLength == .length(0))
  }

  /// `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3).
  private mutating func parseRequestLine(
    _ window: Span<UInt8>, at index: inout Int
  ) throws(HTTPError) {
    head.method = try parseMethod(window, at: &index)
    head.target = try parseTarget(window, at: &index)
    head.targetForm = try HTTPTarget.form(of: window, head.target, method: head.method)
    head.version = try HTTPVersionParser.parse(window, at: &index)
    guard window[index] == cr, window[index + 1] == lf else {
      throw HTTPError(400, "RFC 9112 §3", "an invalid request line")
    }
    index += 2
  }

  /// A method that this side could know: CONNECT and TRACE are for proxies, and no registered method has
  /// other characters than these (RFC 9110 §9.1, §16.1).
  private func parseMethod(
    _ window: Span<UInt8>, at index: inout Int
  ) throws(HTTPError) -> HTTPMethod {
    let start = index
    var isKnown = true
    while HTTPCharacters.isToken(window[index]) {
      isKnown = isKnown && HTTPCharacters.isMethod(window[index])
      index += 1
    }
    guard index > start, window[index] == space else {
      throw HTTPError(400, "RFC 9112 §3.1", "an invalid method")
    }
    let range = start..<index
    index += 1
    guard isKnown, range.count <= Self.methodBytesMax else { throw Self.methodNotImplemented }
    let method = HTTPMethod(window.extracting(range))
    guard method != .connect, method != .trace else { throw Self.methodNotImplemented }
    return method
  }

  /// The longest registered method has 17 bytes.
  private static let methodBytesMax = 32
  private static var methodNotImplemented: HTTPError {
    HTTPError(501, "RFC 9110 §9.1", "a method that is not implemented")
  }

  private func parseTarget(
    _ window: Span<UInt8>, at index: inout Int
  ) throws(HTTPError) -> Range<Int> {
    let start = index
    while true {
      index = HTTPScan.targetEnd(window, from: index)
      guard window[index] == percent else { break }
      guard HTTPTarget.isEncodedByte(window, index..<window.count) else {
        throw HTTPError(400, "RFC 3986 §2.1", "an invalid encoding in a request target")
      }
      index += 3
    }
    guard index > start, window[index] == space else {
      throw HTTPError(400, "RFC 9112 §3.2", "an invalid request target")
    }
    defer { index += 1 }
    return start..<index
  }

  /// Whoever names the host twice must mean the same (RFC 9112 §3.2.2): a proxy that goes by one and a
  /// server that goes by the other would disagree.
  private func checkAuthority(_ window: Span<UInt8>) throws(HTTPError) {
    guard case .absolute(let isHTTPS, let authority, _) = head.targetForm else { return }
    for field in head.fields where window.extracting(field.name).equalsIgnoringCase("host") {
      let isSame = HTTPAuthority.areEqual(
        window.extracting(field.value), window.extracting(authority), isHTTPS: isHTTPS)
      guard isSame else {
        throw HTTPError(400, "RFC 9112 §3.2.2", "Host and request target name different hosts")
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
