internal import GrenacheIO
internal import GrenacheTLS

/// A TCP connection, with TLS unless it was refused by a long name, confined to its loop.
///
///     handshaking → open → closing → closed
///
/// Output gathers in `output` and is encrypted and sent at the end of a read pass or of the turn, so
/// that any number of replies costs one record and one `send`. Input is decrypted into memory that
/// the loop lends; only what the delegate leaves is kept.
final class ByteStream: StreamSocketDelegate, LoopTimerTarget {
  enum Side { case client, server }

  enum State: Equatable {
    case handshaking, open
    case closing(Farewell)
    case closed
  }

  /// How far this side has come in closing.
  enum Farewell {
    /// Output still waits.
    case sending
    /// The close_notify has been written.
    case notified
    /// Nothing follows: the peer's end of stream ends the connection.
    case shutDown
  }

  /// Who is at the other end, as its certificate says; `nil` without TLS or certificate.
  var identity: PeerIdentity?
  let side: Side
  let localAddress: SocketAddress?
  let limits: ByteStreamLimits
  let wire: TLSSocket
  var state = State.handshaking
  var handshakeRecord = TLSRecordBounds()
  var handshakeWait = HandshakeWait()
  var delegate: (any ByteStreamDelegate)?
  var queue = OutputQueue()
  var pressure = OutputPressure()
  var input = InputHold()
  var answers = TLSAnswerBudget()
  private var isTellingDrained = false
  lazy var timer = TargetTimer(self)

  /// A stream over a connected socket; `start` begins the handshake.
  init(
    socket: StreamSocket, side: Side, engine: TLSEngine?, limits: ByteStreamLimits,
    delegate: any ByteStreamDelegate, on loop: isolated EventLoop
  ) {
    self.side = side
    self.limits = limits
    self.delegate = delegate
    wire = TLSSocket(socket: socket, engine: engine, buffers: LoopBuffers.of(loop))
    localAddress = socket.localAddress
    if let bytes = limits.sendBufferBytes { socket.limitSendBuffer(to: bytes) }
  }

  // MARK: Operations

  /// Plaintext that waits to be encrypted and sent. After appending, call `outputAppended`.
  var output: [UInt8] {
    get { queue.bytes }
    _modify { yield &queue.bytes }
  }

  var socket: StreamSocket { wire.socket }
  var engine: TLSEngine? { wire.engine }
  var buffers: LoopBuffers { wire.buffers }
  var remoteAddress: SocketAddress { socket.remoteAddress }
  var isOpen: Bool { state == .open }
  var isClosed: Bool { state == .closed }
  var isClosing: Bool { if case .closing = state { true } else { false } }

  /// How far things have come: before the handshake is over, nothing has been sent.
  var stage: TransportError.Stage { state == .handshaking ? .handshake : .transfer }

  /// What has been negotiated; `nil` without TLS.
  var negotiated: TLSNegotiation? { engine?.negotiated }

  /// Who the peer says it is, believed or not.
  var presentedIdentity: PeerIdentity? { engine?.peerIdentity ?? engine?.presentedIdentity }

  /// Bytes that wait to be sent.
  var pendingOutputBytes: Int { queue.unsealedCount + socket.backlogBytes }

  /// Whether more than the high-water mark waits to be sent.
  var isOutputFull: Bool { pendingOutputBytes > limits.outputHighWaterBytes }

  /// Begins: the handshake of a client, or waiting for that of one.
  ///
  /// - Parameters:
  ///   - deadline: the end of the handshake, if its time has begun to run before.
  ///   - hasInput: whether it is known that a client's first record is there.
  func start(
    handshakeBy deadline: MonotonicTime? = nil, hasInput: Bool = false,
    on loop: isolated EventLoop
  ) {
    socket.delegate = self
    handshakeWait.began(at: loop.core.now)
    if engine != nil {
      loop.core.arm(timer, at: deadline ?? loop.core.now + limits.handshakeTimeout)
      if hasInput { return awaitHandshakeStep(on: loop) }
    }
    do {
      try socket.setReading(true, on: loop)
    } catch {
      return fail(TransportError(error, stage: .connect, peer: remoteAddress), on: loop)
    }
    guard engine != nil else { return open(on: loop) }
    if side == .client { stepHandshake(on: loop) }
  }

  func open(on loop: isolated EventLoop) {
    state = .open
    delegate?.streamOpened(on: loop)
  }

  /// Replaces the delegate, when the connection changes its protocol.
  func setDelegate(_ delegate: any ByteStreamDelegate) {
    self.delegate = delegate
  }

  /// Says that `output` has grown: it goes out at the end of the pass or of the turn.
  func outputAppended(on loop: isolated EventLoop) {
    pressure.appended(waiting: pendingOutputBytes, limits: limits)
    guard !input.isInPass else { return }
    // Not from within `streamDrained`, which flushing calls.
    if queue.isUnsealed, queue.bytes.count > 2 * LoopBuffers.sealBytes, !isTellingDrained {
      flush(on: loop)
    }
    loop.core.markDirty(socket)
  }

  /// Has `streamEmptied` called, once, when all output has been sent.
  func tellWhenEmpty() {
    pressure.tellWhenEmpty()
  }

  /// Sends what waits and closes in order: close_notify, end of stream, then the peer's own.
  func close(on loop: isolated EventLoop) {
    guard state == .open else {
      if state == .handshaking { end(nil, on: loop) }
      return
    }
    state = .closing(.sending)
    loop.core.arm(timer, after: limits.writeStallTimeout)
    loop.core.markDirty(socket)
  }

  /// The same, without waiting for the peer: what the kernel has still reaches it.
  func finish(on loop: isolated EventLoop) {
    close(on: loop)
    if isClosing { flush(on: loop) }
    end(nil, on: loop)
  }

  /// Takes leave of a peer that a changed policy allows nothing any more.
  func refuse(_ error: TransportError, on loop: isolated EventLoop) {
    if state != .open || delegate?.streamRefused(error, on: loop) != true { end(error, on: loop) }
  }

  /// Closes at once; what waits is lost. The delegate is told `error`.
  func fail(_ error: TransportError, on loop: isolated EventLoop) {
    end(error, on: loop)
  }

  // MARK: From the socket

  func socketReadable(on loop: isolated EventLoop) {
    if state == .handshaking, side == .server { return awaitHandshakeStep(on: loop) }
    do throws(TransportError) {
      if let engine {
        try readCiphertext(engine, on: loop)
      } else {
        try readPlaintext(on: loop)
      }
    } catch {
      wire.sendAlert(at: stage, on: loop)
      end(error, lingers: engine != nil && !input.hasEnded, on: loop)
    }
  }

  func socketDrained(on loop: isolated EventLoop) {
    guard state != .closed else { return }
    answers.refill()
    // The peer takes bytes: the stall is over.
    switch state {
    case .open: loop.core.cancel(timer)
    case .closing: loop.core.arm(timer, after: limits.writeStallTimeout)
    case .handshaking, .closed: break
    }
    flush(on: loop)
  }

  func socketTurnEnded(on loop: isolated EventLoop) {
    if state == .handshaking, side == .server { return takeHandshakeStep(on: loop) }
    if input.wantsRedelivery, state == .open {
      if isHeldByOutput { flush(on: loop) }
      if !isHeldByOutput { redeliver(on: loop) }
    }
    if state != .closed { flush(on: loop) }
  }

  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
    // What a server has said before it failed is still there when a client goes on reading. (A client that
    // has failed waits for no answer: there it is better known at once.)
    if side == .client, state == .open, input.isPaused, pendingOutputBytes == 0 {
      return socket.postpone(error, on: loop)
    }
    end(TransportError(error, stage: stage, peer: remoteAddress), on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    switch state {
    case .handshaking:
      end(.timedOut(.handshake, after: limits.handshakeTimeout, peer: remoteAddress), on: loop)
    case .open, .closing(.sending), .closing(.notified):
      end(.timedOut(.transfer, after: limits.writeStallTimeout, peer: remoteAddress), on: loop)
    case .closing(.shutDown):
      end(nil, on: loop)
    case .closed:
      break
    }
  }

  // MARK: Output

  /// Encrypts and sends what waits, as far as the kernel takes it.
  func flush(on loop: isolated EventLoop) {
    do throws(TransportError) {
      while !queue.isSealed, socket.backlogBytes == 0 {
        let range = queue.next(atMost: LoopBuffers.sealBytes)
        try wire.send(queue.bytes, range, at: stage, on: loop)
        queue.sealed(range.count)
      }
    } catch {
      return end(error, on: loop)
    }
    if let memory = queue.forgetSealed(from: LoopBuffers.sealBytes) { buffers.giveBack(memory) }
    outputChanged(on: loop)
  }

  /// After a change of what waits: back-pressure, the stall deadline, and the end of a close.
  private func outputChanged(on loop: isolated EventLoop) {
    switch state {
    case .open:
      let pending = pendingOutputBytes
      if pending == 0 {
        if timer.isArmed { loop.core.cancel(timer) }
        if pressure.emptied() { delegate?.streamEmptied(on: loop) }
      } else if !timer.isArmed {
        loop.core.arm(timer, after: limits.writeStallTimeout)
      }
      applyBackPressure(pending, on: loop)
    case .closing:
      finishClosing(on: loop)
    case .handshaking, .closed:
      break
    }
  }

  private func applyBackPressure(_ pending: Int, on loop: isolated EventLoop) {
    let change = pressure.flushed(waiting: pending, limits: limits)
    // A client goes on reading while its writes wait, or both ends could wait for ever.
    switch change {
    case .none:
      return
    case .rose:
      if side == .server { updateReading(on: loop) }
    case .fell(let fromHigh):
      if fromHigh, side == .server { updateReading(on: loop) }
      isTellingDrained = true
      delegate?.streamDrained(on: loop)
      isTellingDrained = false
      if input.wantsRedelivery { loop.core.markDirty(socket) }
    }
  }

  /// With everything sent, says that nothing follows; the peer's end of stream ends the connection.
  func finishClosing(on loop: isolated EventLoop) {
    guard case .closing(let farewell) = state, farewell != .shutDown, queue.isSealed,
      socket.backlogBytes == 0
    else { return }
    if engine != nil, farewell == .sending {
      state = .closing(.notified)
      wire.sendCloseNotify(at: stage, on: loop)
    }
    guard socket.backlogBytes == 0 else { return }
    state = .closing(.shutDown)
    socket.shutDownWriting()
    loop.core.arm(timer, after: limits.closeTimeout)
    if input.hasEnded { return end(nil, on: loop) }
    _ = input.resume()
    pressure.release()
    updateReading(on: loop)
  }

  // MARK: The end

  /// - Parameter lingers: whether an alert has just been sent, which the peer is to read.
  func end(
    _ error: TransportError?, lingers: Bool = false, on loop: isolated EventLoop
  ) {
    guard state != .closed else { return }
    if let engine { buffers.forget(self, of: engine.context, on: loop) }
    state = .closed
    loop.core.cancel(timer)
    buffers.window.dropOutput()
    buffers.giveBack(queue.removeAll())
    input.drop()
    if engine == nil, error != nil {
      // Without TLS only a reset tells a peer that what it has is not the whole.
      socket.reset(on: loop)
    } else if lingers {
      SocketLinger.close(socket, after: limits.closeTimeout, on: loop)
    } else {
      socket.close(on: loop)
    }
    let delegate = self.delegate
    self.delegate = nil
    delegate?.streamClosed(error, on: loop)
  }
}
