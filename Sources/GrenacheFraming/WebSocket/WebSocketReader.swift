/// What a reader has found.
package enum WebSocketStep: Hashable, Sendable {
  /// A message in one frame that lies whole in the window: borrowed, not copied.
  case message(WebSocketMessageKind, Range<Int>)
  /// A message that came in parts; `takeMessage` gives it.
  case assembledMessage(WebSocketMessageKind)
  case ping(Range<Int>)
  case pong(Range<Int>)
  case close(WebSocketCloseCode?, reason: Range<Int>)
  /// More bytes, or nothing at all after a close frame.
  case needBytes
}

/// Reads frames and puts messages together (RFC 6455 §5), for both roles.
///
/// `next` is given a window with every byte that is not consumed, unmasks payloads in place, and moves
/// `offset` past what it has consumed. After `needBytes` the rest, at most a frame's head or one
/// control frame, comes again with more behind it: a data frame that is incomplete has been moved
/// into the reader's own storage, which grows with what has come, not with what was announced.
package struct WebSocketReader: Sendable {
  /// A message that is coming in parts.
  private struct Assembly {
    var kind: WebSocketMessageKind
    var bytes: [UInt8] = []
    var fragments = 0
    var text = UTF8Validator()
  }
  /// The frame whose payload is incomplete.
  private struct OpenFrame {
    var isFinal: Bool
    var key: UInt32?
    var left: Int
    var position = 0
  }

  private let role: WebSocketRole
  private let limits: WebSocketLimits
  private var assembly: Assembly?
  private var openFrame: OpenFrame?
  private var finished: [UInt8] = []
  private var isClosed = false

  package init(role: WebSocketRole, limits: WebSocketLimits) {
    self.role = role
    self.limits = limits
  }

  /// The message of the last `assembledMessage`; its storage is given away.
  package mutating func takeMessage() -> [UInt8] {
    defer { finished = [] }
    return finished
  }

  /// Takes the next step.
  ///
  /// - Throws: `WebSocketError`; nothing more can be read then: send its code and close.
  @inline(__always)
  package mutating func next(
    _ window: inout MutableSpan<UInt8>, from offset: inout Int
  ) throws(WebSocketError) -> WebSocketStep {
    if openFrame == nil, assembly == nil, !isClosed {
      // The common case first: a whole unfragmented message.
      guard let head = try WebSocketFrameHead.parse(window, at: offset) else { return .needBytes }
      try checkMask(head)
      let start = offset + head.headBytes
      if head.isFinal, !head.opcode.isControl, head.payloadBytes <= window.count - start {
        return try wholeMessage(head, &window, start, &offset)
      }
    }
    return try nextSlow(&window, from: &offset)
  }

  private mutating func nextSlow(
    _ window: inout MutableSpan<UInt8>, from offset: inout Int
  ) throws(WebSocketError) -> WebSocketStep {
    while !isClosed {
      if openFrame != nil {
        if let step = try payloadReceived(&window, from: &offset) { return step }
        if openFrame != nil { return .needBytes }
      }
      guard let head = try WebSocketFrameHead.parse(window, at: offset) else { return .needBytes }
      try checkMask(head)
      let step = try frame(head, &window, from: &offset)
      if step != .needBytes || openFrame != nil || head.opcode.isControl { return step }
    }
    return .needBytes
  }

  @inline(__always)
  private func wholeMessage(
    _ head: WebSocketFrameHead, _ window: inout MutableSpan<UInt8>, _ start: Int,
    _ offset: inout Int
  ) throws(WebSocketError) -> WebSocketStep {
    let kind = try messageKind(of: head)
    let range = start..<(start + head.payloadBytes)
    if let key = head.maskingKey { WebSocketMask.apply(key, to: &window, in: range) }
    if kind == .text {
      var validator = UTF8Validator()
      guard validator.append(window.span, range), validator.isComplete else { throw Self.badText }
    }
    offset = range.upperBound
    return .message(kind, range)
  }

  /// A frame whose head is whole: a control frame, or the beginning of a part of a message.
  private mutating func frame(
    _ head: WebSocketFrameHead, _ window: inout MutableSpan<UInt8>, from offset: inout Int
  ) throws(WebSocketError) -> WebSocketStep {
    if head.opcode.isControl { return try control(head, &window, from: &offset) }
    try beginFragment(head)
    offset += head.headBytes
    openFrame = OpenFrame(isFinal: head.isFinal, key: head.maskingKey, left: head.payloadBytes)
    return try payloadReceived(&window, from: &offset) ?? .needBytes
  }

  private mutating func beginFragment(_ head: WebSocketFrameHead) throws(WebSocketError) {
    if head.opcode == .continuation {
      guard assembly != nil else {
        throw WebSocketError(.protocolError, "§5.4", "a continuation of nothing")
      }
    } else {
      let kind = try messageKind(of: head)
      assembly = Assembly(kind: kind)
    }
    let held = assembly?.bytes.count ?? 0
    guard head.payloadBytes <= limits.messageBytesMax - held else { throw tooBig }
    assembly?.fragments += 1
    guard (assembly?.fragments ?? 0) <= limits.fragmentsMax else {
      throw WebSocketError(
        .policyViolation, "§7.4.1", "a message of more than \(limits.fragmentsMax) fragments")
    }
  }

  /// Moves payload of the open frame into the assembly; a step when that completes the message.
  private mutating func payloadReceived(
    _ window: inout MutableSpan<UInt8>, from offset: inout Int
  ) throws(WebSocketError) -> WebSocketStep? {
    guard var frame = openFrame, assembly != nil else { return nil }
    let count = min(frame.left, window.count - offset)
    let range = offset..<(offset + count)
    if let key = frame.key {
      WebSocketMask.apply(key, to: &window, in: range, position: frame.position)
    }
    if assembly?.kind == .text {
      guard assembly?.text.append(window.span, range) == true else { throw Self.badText }
    }
    appendToAssembly(window.span.extracting(range))
    offset += count
    frame.left -= count
    frame.position = (frame.position + count) & 3
    guard frame.left == 0 else {
      openFrame = frame
      return nil
    }
    openFrame = nil
    guard frame.isFinal, let whole = assembly else { return nil }
    guard whole.kind == .binary || whole.text.isComplete else { throw Self.badText }
    finished = whole.bytes
    assembly = nil
    return .assembledMessage(whole.kind)
  }

  private mutating func appendToAssembly(_ bytes: Span<UInt8>) {
    guard var taken = assembly else { return }
    assembly = nil  // gives up the other reference, so that appending does not copy
    bytes.append(to: &taken.bytes)
    assembly = taken
  }

  private mutating func control(
    _ head: WebSocketFrameHead, _ window: inout MutableSpan<UInt8>, from offset: inout Int
  ) throws(WebSocketError) -> WebSocketStep {
    let start = offset + head.headBytes
    guard head.payloadBytes <= window.count - start else { return .needBytes }
    let range = start..<(start + head.payloadBytes)
    if let key = head.maskingKey { WebSocketMask.apply(key, to: &window, in: range) }
    offset = range.upperBound
    switch head.opcode {
    case .ping: return .ping(range)
    case .pong: return .pong(range)
    case .close: return try close(window.span, range)
    case .continuation, .text, .binary: return .needBytes
    }
  }

  /// A close frame: nothing, or a code and a reason (RFC 6455 §5.5.1).
  private mutating func close(
    _ window: Span<UInt8>, _ range: Range<Int>
  ) throws(WebSocketError) -> WebSocketStep {
    isClosed = true
    guard !range.isEmpty else { return .close(nil, reason: range) }
    guard range.count >= 2 else {
      throw WebSocketError(.protocolError, "§5.5.1", "a close frame with half a code")
    }
    let start = range.lowerBound
    let code = WebSocketCloseCode(
      rawValue: UInt16(window[start]) << 8 | UInt16(window[start + 1]))
    guard code.mayBeSent else {
      throw WebSocketError(.protocolError, "§7.4", "close code \(code.rawValue) on the wire")
    }
    let reason = (start + 2)..<range.upperBound
    guard isValidUTF8(window.extracting(reason)) else { throw Self.badText }
    return .close(code, reason: reason)
  }

  @inline(__always)
  private func checkMask(_ head: WebSocketFrameHead) throws(WebSocketError) {
    guard (head.maskingKey != nil) == (role == .server) else {
      throw WebSocketError(
        .protocolError, "§5.1",
        role == .server ? "a client that does not mask" : "a server that masks")
    }
  }

  /// What kind of message a first frame begins; its length alone may be too much already.
  @inline(__always)
  private func messageKind(
    of head: WebSocketFrameHead
  ) throws(WebSocketError) -> WebSocketMessageKind {
    guard head.payloadBytes <= limits.messageBytesMax else { throw tooBig }
    switch head.opcode {
    case .text where assembly == nil: return .text
    case .binary where assembly == nil: return .binary
    case .continuation:
      throw WebSocketError(.protocolError, "§5.4", "a continuation of nothing")
    case .text, .binary, .close, .ping, .pong:
      throw WebSocketError(.protocolError, "§5.4", "a new message inside a fragmented one")
    }
  }

  private var tooBig: WebSocketError {
    WebSocketError(
      .messageTooBig, "§7.4.1", "a message of more than \(limits.messageBytesMax) bytes")
  }

  private static var badText: WebSocketError {
    WebSocketError(.invalidPayload, "§8.1", "text that is not UTF-8")
  }
}
