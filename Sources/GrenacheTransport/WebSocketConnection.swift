package import GrenacheFraming
package import GrenacheIO
package import GrenacheTLS

/// An open WebSocket (RFC 6455), client or server, confined to its loop.
package final class WebSocketConnection: ByteStreamDelegate, LoopTimerTarget {
  /// The reason of the close frame, with 1008, that a peer gets which may do nothing any more.
  package static let refusal = "ERR_NOT_PERMITTED"

  /// Who is at the other end; `nil` without TLS or certificate.
  package var identity: PeerIdentity? { stream.identity }
  package var remoteAddress: SocketAddress { stream.remoteAddress }
  package var localAddress: SocketAddress? { stream.localAddress }
  package var negotiated: TLSNegotiation? { stream.negotiated }
  /// What the opening handshake agreed upon (RFC 6455 §1.9); `nil` for none.
  package let subprotocol: String?
  /// Whether messages may be compressed (RFC 7692).
  package var isCompressed: Bool { writer.deflater != nil }
  /// Whether messages can be sent.
  package var isOpen: Bool { stream.isOpen && ending.isOpen }
  /// Whether so much output waits that its producer should wait for `drained`.
  package var isOutputFull: Bool { stream.isOutputFull }
  package var pendingOutputBytes: Int { stream.pendingOutputBytes }
  /// The memory that output takes up, sent or not.
  var heldOutputBytes: Int { stream.output.count }

  /// Told when the connection has closed, after its handler.
  weak var owner: (any WebSocketOwner)?

  private let stream: ByteStream
  private let role: WebSocketRole
  private let closeTimeout: Duration
  private var reader: WebSocketReader
  private let writer: WebSocketWriter
  private var keepAlive: WebSocketKeepAlive?
  private var lastReceipt: MonotonicTime
  private var ending = WebSocketEnding()
  private var controlFrames: ControlFrameBudget
  private var pongs = PongHold()
  private var handler: (any WebSocketHandler)?
  private var isPaused = false
  private var messageWatch: MessageWatch
  private lazy var messageTimer = TargetTimer(self)
  private lazy var closeTimer = TargetTimer(self)
  private lazy var keepAliveTimer = TargetTimer(self)

  init(
    stream: ByteStream, role: WebSocketRole, limits: WebSocketLimits, options: WebSocketOptions,
    agreement: WebSocketAgreement, closeTimeout: Duration, handler: any WebSocketHandler,
    on loop: isolated EventLoop
  ) {
    self.stream = stream
    subprotocol = agreement.subprotocol
    self.role = role
    self.closeTimeout = closeTimeout
    self.handler = handler
    (reader, writer) = agreement.coders(for: role, limits: limits, options: options, on: loop)
    controlFrames = ControlFrameBudget(limits: limits)
    messageWatch = MessageWatch(limits.messageRate)
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
    writer.append(kind, payload, to: &stream.output)
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
    if writer.deflates(payloadBytes) {
      var payload: [UInt8] = []
      payload.reserveCapacity(payloadBytes)
      write(&payload)
      return send(kind, payload.span, on: loop)
    }
    writer.append(kind, payloadBytes: payloadBytes, to: &stream.output, write: write)
    stream.outputAppended(on: loop)
  }

  /// Begins the closing handshake (RFC 6455 §7.1.2).
  package func close(
    _ code: WebSocketCloseCode, reason: String = "", on loop: isolated EventLoop
  ) {
    guard stream.isOpen else { return stream.close(on: loop) }
    perform(ending.closeRequested(code), reason: reason, on: loop)
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
    guard !ending.isOpen, stream.pendingOutputBytes == 0 else { return abort(error, on: loop) }
    ending.cutShort(error)
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
    let action = messageWatch.received(
      offset - start, isInMessage: reader.isInMessage, at: loop.core.now)
    perform(action, on: loop)
    handler?.passEnded(of: self, on: loop)
    // Behind a close frame nothing counts, and nothing of it is kept.
    return ending.isDone ? bytes.count : offset
  }

  func streamEnded(on loop: isolated EventLoop) {
    ending.cutShort(
      .closed("the peer went away without a closing handshake", peer: remoteAddress))
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
    guard let payload = pongs.take(), isOpen else { return }
    sendFrame(.pong, payload.span, on: loop)
  }

  func streamRefused(_ error: TransportError, on loop: isolated EventLoop) -> Bool {
    // A peer that does not read what it has been sent would not read this either.
    guard isOpen, stream.pendingOutputBytes == 0 else { return false }
    perform(ending.refused(error), reason: Self.refusal, on: loop)
    return true
  }

  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
    loop.core.cancel(closeTimer)
    loop.core.cancel(keepAliveTimer)
    if messageWatch.isWatching { loop.core.cancel(messageTimer) }
    let handler = self.handler
    self.handler = nil
    handler?.closed(self, ending.closed(error), on: loop)
    owner?.webSocketClosed(self, on: loop)
  }

  package func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    if timer === keepAliveTimer { return lookForPeer(on: loop) }
    if messageWatch.isWatching, timer === messageTimer { return lookForMessage(on: loop) }
    // The close frame may still be on its way behind other output, which has a deadline of its own.
    if stream.pendingOutputBytes > 0 { return loop.core.arm(closeTimer, after: closeTimeout) }
    ending.cutShort(.timedOut(.transfer, after: closeTimeout, peer: remoteAddress))
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
      sendFrame(.ping, [UInt8]().span, on: loop)
      loop.core.arm(keepAliveTimer, after: time)
    case .giveUp?:
      stream.fail(.timedOut(.transfer, after: now - lastReceipt, peer: remoteAddress), on: loop)
    case nil:
      break
    }
  }

  private func lookForMessage(on loop: isolated EventLoop) {
    guard isOpen else { return }
    let isReading = !isPaused && !stream.isOutputFull
    perform(messageWatch.timerFired(isReading: isReading, at: loop.core.now), on: loop)
  }

  @inline(__always)
  private func perform(_ action: MessageWatch.Action, on loop: isolated EventLoop) {
    switch action {
    case .none: break
    case .look(let time): loop.core.arm(messageTimer, after: time)
    case .rest: loop.core.cancel(messageTimer)
    case .refuse: refuse(.messageTooSlow, on: loop)
    }
  }

  // MARK: Frames

  @inline(__always)
  private func readFrames(
    _ bytes: inout MutableSpan<UInt8>, from offset: inout Int, on loop: isolated EventLoop
  ) throws(WebSocketError) {
    while !isPaused {
      switch try reader.next(&bytes, from: &offset) {
      case .message(let kind, let range):
        messageWatch.messageEnded()
        handler?.received(kind, bytes.span.extracting(range), from: self, on: loop)
      case .assembledMessage(let kind):
        let message = reader.takeMessage()
        messageWatch.messageEnded()
        handler?.received(kind, message.span, from: self, on: loop)
      case .ping(let range):
        try controlFrames.spend(at: loop.core.now - MonotonicTime(nanoseconds: 0))
        answerPing(bytes.span.extracting(range), on: loop)
      case .pong:
        try controlFrames.spend(at: loop.core.now - MonotonicTime(nanoseconds: 0))
      case .close(let code, let reason):
        let action = ending.closeReceived(code, reason: bytes.span.extracting(reason).string())
        perform(action, reason: "", on: loop)
        return
      case .needBytes:
        return
      }
    }
  }

  private func answerPing(_ payload: Span<UInt8>, on loop: isolated EventLoop) {
    guard isOpen else { return }
    guard pongs.pinged(payload, beside: stream.pendingOutputBytes) else {
      return stream.tellWhenEmpty()
    }
    sendFrame(.pong, payload, on: loop)
  }

  /// The peer has broken a rule or a limit: it is told, and the connection ends.
  private func refuse(_ violation: WebSocketError, on loop: isolated EventLoop) {
    Refusals.count(violation.closeCode)
    let action = ending.violationFound(violation, by: remoteAddress)
    perform(action, reason: violation.message, on: loop)
  }

  private func perform(
    _ action: WebSocketCloseMachine.Action, reason: String, on loop: isolated EventLoop
  ) {
    switch action {
    case .none:
      break
    case .sendClose(let code):
      sendClose(code, reason: reason, on: loop)
      loop.core.arm(closeTimer, after: closeTimeout)
    case .sendCloseAndEnd(let code):
      sendClose(code, reason: reason, on: loop)
      endTransport(on: loop)
    case .closeTransport:
      endTransport(on: loop)
    }
  }

  /// The server closes TCP first (RFC 6455 §7.1.1); a client waits for that, within the deadline.
  private func endTransport(on loop: isolated EventLoop) {
    if role == .server || ending.isBroken {
      stream.close(on: loop)
    } else if !closeTimer.isArmed {
      loop.core.arm(closeTimer, after: closeTimeout)
    }
  }

  private func sendClose(
    _ code: WebSocketCloseCode?, reason: String, on loop: isolated EventLoop
  ) {
    writer.appendClose(code, reason: reason, to: &stream.output)
    stream.outputAppended(on: loop)
  }

  private func sendFrame(
    _ opcode: WebSocketOpcode, _ payload: Span<UInt8>, on loop: isolated EventLoop
  ) {
    writer.appendFrame(opcode, payload, to: &stream.output)
    stream.outputAppended(on: loop)
  }
}
