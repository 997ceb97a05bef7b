package import GrenacheFraming
package import GrenacheIO
package import GrenacheTLS

/// What speaks over a WebSocket. All calls are on the connection's loop; all but `received` may be
/// left out.
package protocol WebSocketHandler: AnyObject {
  /// A message has come; its bytes are lent for the duration of the call.
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop)
  /// The messages of one read have been handed over: the time to start what they asked for.
  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop)
  /// So much output has been sent that more is welcome again.
  func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop)
  /// The server shuts down: finish what is under way, then close with 1001.
  func drain(_ connection: WebSocketConnection, on loop: isolated EventLoop)
  /// The connection is closed; nothing follows.
  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop)
}

extension WebSocketHandler {
  package func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {}
  package func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop) {}
  package func drain(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    connection.close(.goingAway, on: loop)
  }
  package func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {}
}

/// How a WebSocket connection ended.
package struct WebSocketClosure: Hashable, Sendable {
  /// The peer's close code, if it sent one.
  package var code: WebSocketCloseCode?
  /// What the peer said of it, at most 123 bytes (RFC 6455 §5.5.1).
  package var reason = ""
  /// What broke the connection; `nil` after a closing handshake.
  package var error: TransportError?
  /// The code that this side has closed with since the peer broke a rule or a limit.
  package var violation: WebSocketCloseCode?
}

/// Who keeps count of a connection.
protocol WebSocketOwner: AnyObject {
  func webSocketClosed(_ webSocket: WebSocketConnection, on loop: isolated EventLoop)
}

/// An open WebSocket (RFC 6455), client or server, confined to its loop.
package final class WebSocketConnection: ByteStreamDelegate, LoopTimerTarget {
  /// The reason of the close frame, with 1008, that a peer gets which may do nothing any more.
  package static let refusal = "ERR_NOT_PERMITTED"

  /// With more output than this waiting, pings are answered once it has been sent, or has been full and
  /// no longer is.
  static let outputBesidePongsMax = 1 << 10

  /// Who is at the other end; `nil` without TLS or certificate.
  package var identity: PeerIdentity? { stream.identity }
  package var remoteAddress: SocketAddress { stream.remoteAddress }
  package var localAddress: SocketAddress? { stream.localAddress }
  package var negotiated: TLSNegotiation? { stream.negotiated }
  /// What the opening handshake agreed upon (RFC 6455 §1.9); `nil` for none.
  package let subprotocol: String?
  /// Whether messages may be compressed (RFC 7692).
  package var isCompressed: Bool { deflater != nil }
  /// Whether messages can be sent.
  package var isOpen: Bool { stream.isOpen && closing.isOpen }
  /// Whether so much output waits that its producer should wait for `drained`.
  package var isOutputFull: Bool { stream.isOutputFull }
  package var pendingOutputBytes: Int { stream.pendingOutputBytes }
  /// The memory that output takes up, sent or not.
  var heldOutputBytes: Int { stream.output.count }

  /// Told when the connection has closed, after its handler.
  weak var owner: (any WebSocketOwner)?

  private let stream: ByteStream
  private let role: WebSocketRole
  private let closeDeadline: Duration
  private var reader: WebSocketReader
  private let deflater: MessageDeflater?
  private var keepAlive: WebSocketKeepAlive?
  private var lastReceipt: MonotonicTime
  private var closing = WebSocketCloseMachine()
  private var controlFrames: ControlFrameBudget
  /// What the latest ping holds of those that wait for an answer; its pong answers them all.
  private var pendingPong: [UInt8]?
  private var handler: (any WebSocketHandler)?
  private var peerClosure = WebSocketClosure()
  /// What broke the connection, if something did.
  private var failure: TransportError?
  private let masks: MaskingKeys?
  private var isPaused = false
  /// When the message began that has not ended, and what had been received before.
  private var messageBegan = (at: MonotonicTime(nanoseconds: 0), bytes: 0)
  private var isWatchingMessage = false
  /// Whether a message has ended since the last look.
  private var hasMessageEnded = false
  private var receivedBytes = 0
  private let messageRate: ReceiptRate
  private lazy var messageTimer = TargetTimer(self)
  private lazy var closeTimer = TargetTimer(self)
  private lazy var keepAliveTimer = TargetTimer(self)

  init(
    stream: ByteStream, role: WebSocketRole, limits: WebSocketLimits, options: WebSocketOptions,
    agreement: WebSocketAgreement, closeDeadline: Duration, handler: any WebSocketHandler,
    on loop: isolated EventLoop
  ) {
    self.stream = stream
    subprotocol = agreement.subprotocol
    self.role = role
    self.closeDeadline = closeDeadline
    self.handler = handler
    if let deflate = options.deflate, let agreed = agreement.deflate {
      let pool = loop.core.local(ZlibPool.self) { ZlibPool() }
      deflater = MessageDeflater(agreed, role: role, options: deflate, pool: pool)
      let inflater = MessageInflater(agreed, role: role, options: deflate, pool: pool)
      reader = WebSocketReader(role: role, limits: limits, inflater: inflater)
    } else {
      deflater = nil
      reader = WebSocketReader(role: role, limits: limits)
    }
    controlFrames = ControlFrameBudget(limits: limits)
    messageRate = limits.messageRate
    masks = role == .client ? MaskingKeys.of(loop) : nil
    keepAlive = WebSocketKeepAlive(options)
    lastReceipt = loop.core.now
    if let keepAlive { loop.core.arm(keepAliveTimer, after: keepAlive.firstWait) }
  }

  // MARK: Sending

  /// Sends one message in one frame; without effect once the closing handshake has begun.
  package func send(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, on loop: isolated EventLoop
  ) {
    guard isOpen else { return }
    let opcode: WebSocketOpcode = kind == .text ? .text : .binary
    if let deflater, deflater.wants(payload.count) {
      deflater.appendMessage(opcode, payload, maskingKey: masks?.next(), to: &stream.output)
    } else {
      appendFrame(opcode, payload)
    }
    stream.outputAppended(on: loop)
  }

  /// Sends one message whose payload `write` appends to the output itself, saving a copy.
  ///
  /// `payloadBytes` is the exact length that `write` appends.
  package func send(
    _ kind: WebSocketMessageKind, payloadBytes: Int, on loop: isolated EventLoop,
    write: (inout [UInt8]) -> Void
  ) {
    guard isOpen else { return }
    if let deflater, deflater.wants(payloadBytes) {
      var payload: [UInt8] = []
      payload.reserveCapacity(payloadBytes)
      write(&payload)
      return send(kind, payload.span, on: loop)
    }
    let opcode: WebSocketOpcode = kind == .text ? .text : .binary
    if let masks {
      let key = masks.next()
      stream.output.appendWebSocketFrameHead(opcode, payloadBytes: payloadBytes, maskingKey: key)
      let start = stream.output.count
      write(&stream.output)
      stream.output.maskWebSocketPayload(from: start, key: key)
    } else {
      stream.output.appendWebSocketFrameHead(opcode, payloadBytes: payloadBytes, maskingKey: nil)
      write(&stream.output)
    }
    stream.outputAppended(on: loop)
  }

  /// Begins the closing handshake (RFC 6455 §7.1.2).
  package func close(
    _ code: WebSocketCloseCode, reason: String = "", on loop: isolated EventLoop
  ) {
    guard stream.isOpen else { return stream.close(on: loop) }
    perform(closing.closeRequested(code), reason: reason, on: loop)
  }

  /// Has the handler finish and close.
  func drain(on loop: isolated EventLoop) {
    handler?.drain(self, on: loop)
  }

  /// Breaks the connection off.
  package func abort(_ error: TransportError, on loop: isolated EventLoop) {
    stream.fail(error, on: loop)
  }

  /// Waits no longer for the peer: breaks the connection off, unless all of it has left that was to be said,
  /// the close frame at its end.
  func giveUp(_ error: TransportError, on loop: isolated EventLoop) {
    guard !closing.isOpen, stream.pendingOutputBytes == 0 else { return abort(error, on: loop) }
    if !closing.isDone { failure = failure ?? error }
    stream.finish(on: loop)
  }

  /// Stops handing over messages; the peer meets TCP's flow control.
  package func pauseReading(on loop: isolated EventLoop) {
    isPaused = true
    stream.pauseReading(on: loop)
  }

  /// Goes on handing over messages.
  package func resumeReading(on loop: isolated EventLoop) {
    guard isPaused else { return }
    isPaused = false
    stream.resumeReading(on: loop)
  }

  // MARK: From the stream

  func streamOpened(on loop: isolated EventLoop) {}

  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
    receive(&bytes, from: 0, on: loop)
  }

  /// Reads frames from `start` on; returns where what is left begins.
  func receive(
    _ bytes: inout MutableSpan<UInt8>, from start: Int, on loop: isolated EventLoop
  ) -> Int {
    var offset = start
    lastReceipt = loop.core.now
    do throws(WebSocketError) {
      try readFrames(&bytes, from: &offset, on: loop)
    } catch {
      refuse(error, on: loop)
      offset = bytes.count
    }
    let before = receivedBytes
    receivedBytes &+= offset - start
    if reader.isInMessage || isWatchingMessage { watchMessage(since: before, on: loop) }
    handler?.passEnded(of: self, on: loop)
    // Behind a close frame nothing counts, and nothing of it is kept.
    return closing.isDone ? bytes.count : offset
  }

  func streamEnded(on loop: isolated EventLoop) {
    if failure == nil, !closing.isDone {
      failure = .closed("the peer went away without a closing handshake", peer: remoteAddress)
    }
    stream.close(on: loop)
  }

  func streamDrained(on loop: isolated EventLoop) {
    // First: a handler that always has more to send would let nothing be empty again.
    sendPendingPong(on: loop)
    handler?.drained(self, on: loop)
  }

  func streamEmptied(on loop: isolated EventLoop) {
    sendPendingPong(on: loop)
  }

  private func sendPendingPong(on loop: isolated EventLoop) {
    guard let payload = pendingPong else { return }
    pendingPong = nil
    guard isOpen else { return }
    appendFrame(.pong, payload.span)
    stream.outputAppended(on: loop)
  }

  func streamRefused(_ error: TransportError, on loop: isolated EventLoop) -> Bool {
    // A peer that does not read what it has been sent would not read this either.
    guard isOpen, stream.pendingOutputBytes == 0 else { return false }
    failure = error
    perform(closing.violationFound(.policyViolation), reason: Self.refusal, on: loop)
    return true
  }

  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
    loop.core.cancel(closeTimer)
    loop.core.cancel(keepAliveTimer)
    if isWatchingMessage { loop.core.cancel(messageTimer) }
    let handler = self.handler
    self.handler = nil
    let reported = closing.isDone ? failure : failure ?? error
    peerClosure.error = reported
    handler?.closed(self, peerClosure, on: loop)
    owner?.webSocketClosed(self, on: loop)
  }

  package func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    if timer === keepAliveTimer { return lookForPeer(on: loop) }
    if isWatchingMessage, timer === messageTimer { return lookForMessage(on: loop) }
    // The close frame may still be on its way behind other output, which has a deadline of its own.
    if stream.pendingOutputBytes > 0 { return loop.core.arm(closeTimer, after: closeDeadline) }
    if !closing.isDone {
      failure = failure ?? .timedOut(.transfer, after: closeDeadline, peer: remoteAddress)
    }
    // What the peer has not read yet waits in the kernel: a reset would throw it away.
    stream.close(on: loop)
  }

  /// Pings a peer from which nothing has come for long, and gives it up when nothing comes then.
  private func lookForPeer(on loop: isolated EventLoop) {
    guard isOpen else { return }  // closing has a deadline of its own
    let start = MonotonicTime(nanoseconds: 0)
    let now = loop.core.now
    // With output waiting the stream may not read, and its stall deadline runs.
    let isReading = !isPaused && stream.pendingOutputBytes == 0
    let action = keepAlive?.timerFired(
      at: now - start, lastReceipt: lastReceipt - start, isReading: isReading)
    switch action {
    case .wait(let time)?:
      loop.core.arm(keepAliveTimer, after: time)
    case .sendPing(let time)?:
      appendFrame(.ping, [UInt8]().span)
      stream.outputAppended(on: loop)
      loop.core.arm(keepAliveTimer, after: time)
    case .giveUp?:
      stream.fail(.timedOut(.transfer, after: now - lastReceipt, peer: remoteAddress), on: loop)
    case nil:
      break
    }
  }

  /// What has come of a message is memory that its sender holds: the rest has to follow.
  private func watchMessage(since bytes: Int, on loop: isolated EventLoop) {
    guard reader.isInMessage else {
      isWatchingMessage = false
      return loop.core.cancel(messageTimer)
    }
    guard !isWatchingMessage || hasMessageEnded else { return }
    isWatchingMessage = true
    beginMessage(since: bytes, on: loop)
  }

  private func beginMessage(since bytes: Int, on loop: isolated EventLoop) {
    hasMessageEnded = false
    messageBegan = (loop.core.now, bytes)
    loop.core.arm(messageTimer, after: messageRate.grace)
  }

  private func lookForMessage(on loop: isolated EventLoop) {
    guard isOpen else { return }
    // While this side does not read, nobody is slow.
    if isPaused || stream.isOutputFull { return beginMessage(since: receivedBytes, on: loop) }
    let received = receivedBytes &- messageBegan.bytes
    guard messageRate.isTooSlow(received, after: loop.core.now - messageBegan.at) else {
      return loop.core.arm(messageTimer, after: .seconds(1))
    }
    refuse(.messageTooSlow, on: loop)
  }

  // MARK: Frames

  @inline(__always)
  private func readFrames(
    _ bytes: inout MutableSpan<UInt8>, from offset: inout Int, on loop: isolated EventLoop
  ) throws(WebSocketError) {
    while !isPaused {
      switch try reader.next(&bytes, from: &offset) {
      case .message(let kind, let range):
        hasMessageEnded = true
        handler?.received(kind, bytes.span.extracting(range), from: self, on: loop)
      case .assembledMessage(let kind):
        let message = reader.takeMessage()
        hasMessageEnded = true
        handler?.received(kind, message.span, from: self, on: loop)
      case .ping(let range):
        try controlFrames.spend(at: loop.core.now - MonotonicTime(nanoseconds: 0))
        answerPing(bytes.span.extracting(range), on: loop)
      case .pong:
        try controlFrames.spend(at: loop.core.now - MonotonicTime(nanoseconds: 0))
      case .close(let code, let reason):
        peerClosure.code = code
        peerClosure.reason = bytes.span.extracting(reason).string()
        perform(closing.closeReceived(code), reason: "", on: loop)
        return
      case .needBytes:
        return
      }
    }
  }

  /// A peer that sends pings and does not read gets one pong, to the latest (RFC 6455 §5.5.3).
  private func answerPing(_ payload: Span<UInt8>, on loop: isolated EventLoop) {
    guard isOpen else { return }
    guard pendingPong == nil, stream.pendingOutputBytes <= Self.outputBesidePongsMax else {
      pendingPong = payload.copy()
      return stream.tellWhenEmpty()
    }
    appendFrame(.pong, payload)
    stream.outputAppended(on: loop)
  }

  /// The peer has broken a rule or a limit: it is told, and the connection ends.
  private func refuse(_ violation: WebSocketError, on loop: isolated EventLoop) {
    Refusals.count(violation.closeCode)
    failure = failure ?? TransportError(violation, peer: remoteAddress)
    peerClosure.violation = violation.closeCode
    perform(closing.violationFound(violation.closeCode), reason: violation.message, on: loop)
  }

  private func perform(
    _ action: WebSocketCloseMachine.Action, reason: String, on loop: isolated EventLoop
  ) {
    switch action {
    case .none:
      break
    case .sendClose(let code):
      sendClose(code, reason: reason, on: loop)
      loop.core.arm(closeTimer, after: closeDeadline)
    case .sendCloseAndEnd(let code):
      sendClose(code, reason: reason, on: loop)
      endTransport(on: loop)
    case .closeTransport:
      endTransport(on: loop)
    }
  }

  /// The server closes TCP first (RFC 6455 §7.1.1); a client waits for that, within the deadline.
  private func endTransport(on loop: isolated EventLoop) {
    if role == .server || failure != nil {
      stream.close(on: loop)
    } else if !closeTimer.isArmed {
      loop.core.arm(closeTimer, after: closeDeadline)
    }
  }

  private func sendClose(
    _ code: WebSocketCloseCode?, reason: String, on loop: isolated EventLoop
  ) {
    stream.output.appendWebSocketClose(code, reason: reason, maskingKey: masks?.next())
    stream.outputAppended(on: loop)
  }

  @inline(__always)
  private func appendFrame(_ opcode: WebSocketOpcode, _ payload: Span<UInt8>) {
    stream.output.appendWebSocketFrame(opcode, payload, maskingKey: masks?.next())
  }
}

/// Unpredictable masking keys (RFC 6455 §5.3), drawn from the system's generator in bulk.
final class MaskingKeys {
  private var generator = SecureRandomNumberGenerator()

  static func of(_ loop: isolated EventLoop) -> MaskingKeys {
    loop.core.local(MaskingKeys.self) { MaskingKeys() }
  }

  func next() -> UInt32 {
    UInt32(truncatingIfNeeded: generator.next())
  }
}
