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

extension WebSocketError {
  /// A message of which less came than `WebSocketLimits` asks for.
  package static let messageTooSlow = WebSocketError(
    .policyViolation, "§10.4", "a message that comes too slowly")
}

/// Reads frames and puts messages together (RFC 6455 §5), for both roles.
///
/// `next` is given a window with every byte that is not consumed, unmasks payloads in place, and moves
/// `offset` past what it has consumed. After `needBytes` the rest, at most a frame's head or one
/// control frame, comes again with more behind it: a data frame that is incomplete has been moved
/// into the reader's own storage, which grows with what has come, not with what was announced.
/// A compressed message (RFC 7692) is inflated as its bytes come.
package struct WebSocketReader {
  /// A message that is coming in parts, or compressed.
  private struct Assembly {
    var kind: WebSocketMessageKind
    var isCompressed: Bool
    var bytes: [UInt8] = []
    var fragments = 0
    /// What its frames have announced.
    var wireBytes = 0
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
  private let inflater: MessageInflater?
  private var assembly: Assembly?
  private var openFrame: OpenFrame?
  private var finished: [UInt8] = []
  private var isClosed = false

  /// - Parameter inflater: for connections that have agreed upon permessage-deflate.
  package init(role: WebSocketRole, limits: WebSocketLimits, inflater: MessageInflater? = nil) {
    self.role = role
    self.limits = limits
    self.inflater = inflater
  }

  /// Whether a message has begun that has not ended.
  package var isInMessage: Bool { assembly != nil }

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
      guard let head = try head(window, at: offset) else { return .needBytes }
      try checkMask(head)
      let start = offset + head.headBytes
      if head.isFinal, !head.opcode.isControl, !head.isCompressed,
        head.payloadBytes <= window.count - start
      {
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
      guard let head = try head(window, at: offset) else { return .needBytes }
      try checkMask(head)
      let step = try frame(head, &window, from: &offset)
      if step != .needBytes || openFrame != nil || head.opcode.isControl { return step }
    }
    return .needBytes
  }

  @inline(__always)
  private func head(
    _ window: borrowing MutableSpan<UInt8>, at offset: Int
  ) throws(WebSocketError) -> WebSocketFrameHead? {
    try WebSocketFrameHead.parse(window, at: offset, deflates: inflater != nil)
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
      assembly = Assembly(kind: kind, isCompressed: head.isCompressed)
      if head.isCompressed { try inflater?.begin(bytesMax: limits.messageBytesMax) }
    }
    let held = assembly?.wireBytes ?? 0
    guard head.payloadBytes <= wireBytesMax(assembly?.isCompressed == true) - held else {
      throw tooBig
    }
    assembly?.wireBytes += head.payloadBytes
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
    offset += count
    frame.left -= count
    frame.position = (frame.position + count) & 3
    openFrame = frame.left == 0 ? nil : frame
    try appendToAssembly(window.span, range, isLast: frame.left == 0 && frame.isFinal)
    guard frame.left == 0 else { return nil }
    guard frame.isFinal, let whole = assembly else { return nil }
    guard whole.kind == .binary || whole.text.isComplete else { throw Self.badText }
    finished = whole.bytes
    assembly = nil
    return .assembledMessage(whole.kind)
  }

  /// Takes payload of the message under way; text is checked as it comes.
  private mutating func appendToAssembly(
    _ window: Span<UInt8>, _ range: Range<Int>, isLast: Bool
  ) throws(WebSocketError) {
    guard var taken = assembly else { return }
    assembly = nil  // gives up the other reference, so that appending does not copy
    let start = taken.bytes.count
    var failure: WebSocketError?
    if taken.isCompressed {
      do throws(WebSocketError) {
        try inflater?.append(window, range, to: &taken.bytes)
        if isLast { try inflater?.finish(to: &taken.bytes) }
      } catch {
        failure = error
      }
    } else {
      window.extracting(range).append(to: &taken.bytes)
    }
    if taken.kind == .text {
      var text = taken.text
      // What was inflated before a failure comes first, in whatever pieces it was received.
      guard text.append(taken.bytes.span, start..<taken.bytes.count) else { throw Self.badText }
      taken.text = text
    }
    if let failure { throw failure }
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
    guard head.payloadBytes <= wireBytesMax(head.isCompressed) else { throw tooBig }
    switch head.opcode {
    case .text where assembly == nil: return .text
    case .binary where assembly == nil: return .binary
    case .continuation:
      throw WebSocketError(.protocolError, "§5.4", "a continuation of nothing")
    case .text, .binary, .close, .ping, .pong:
      throw WebSocketError(.protocolError, "§5.4", "a new message inside a fragmented one")
    }
  }

  /// What a message may come as: deflate makes what it cannot compress a little larger.
  @inline(__always)
  private func wireBytesMax(_ isCompressed: Bool) -> Int {
    guard isCompressed else { return limits.messageBytesMax }
    return limits.messageBytesMax.addingSaturated(limits.messageBytesMax >> 10 &+ 64)
  }

  private var tooBig: WebSocketError {
    WebSocketError(
      .messageTooBig, "§7.4.1", "a message of more than \(limits.messageBytesMax) bytes")
  }

  private static var badText: WebSocketError {
    WebSocketError(.invalidPayload, "§8.1", "text that is not UTF-8")
  }
}
