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
    case handshaking, open, closing, closed
  }

  /// Plaintext that waits to be encrypted and sent. After appending, call `outputAppended`.
  var output: [UInt8] = []
  /// Who is at the other end, as its certificate says; `nil` without TLS or certificate.
  var identity: PeerIdentity?
  let side: Side
  let remoteAddress: SocketAddress
  let localAddress: SocketAddress?

  let socket: StreamSocket
  let engine: TLSEngine?
  unowned let buffers: LoopBuffers
  let limits: ByteStreamLimits
  private var delegate: (any ByteStreamDelegate)?
  var state = State.handshaking
  private var leftover: [UInt8] = []
  /// What TLS itself has answered since the peer last took everything. It is no output of the delegate's:
  /// back-pressure does not stop a client from reading what makes it grow.
  private var unsentAnswerBytes = 0
  static let unsentAnswerBytesMax = 64 << 10
  /// How much of `output` has been encrypted already.
  private var sealedCount = 0
  var handshakeRecord = TLSRecordBounds()
  var isStepDue = false
  var lastRecordAt = MonotonicTime(nanoseconds: 0)
  private var isInPass = false
  private var isPausedByDelegate = false
  private var isPausedByOutput = false
  /// Whether somebody may have seen that the output is full.
  private var owesDrained = false
  private var isTellingDrained = false
  /// Whether the delegate is to hear when nothing waits any more.
  private var owesEmptied = false
  private var wantsRedelivery = false
  private var hasEnded = false
  private var hasSentClose = false
  private var hasShutDown = false
  lazy var timer = TargetTimer(self)

  /// A stream over a connected socket; `start` begins the handshake.
  init(
    socket: StreamSocket, side: Side, engine: TLSEngine?, limits: ByteStreamLimits,
    delegate: any ByteStreamDelegate, on loop: isolated EventLoop
  ) {
    self.socket = socket
    self.side = side
    self.engine = engine
    self.limits = limits
    self.delegate = delegate
    buffers = LoopBuffers.of(loop)
    remoteAddress = socket.remoteAddress
    localAddress = socket.localAddress
    if let bytes = limits.sendBufferBytes { socket.limitSendBuffer(to: bytes) }
  }

  // MARK: Operations

  var isOpen: Bool { state == .open }
  var isClosed: Bool { state == .closed }

  /// How far things have come: before the handshake is over, nothing has been sent.
  private var stage: TransportError.Stage { state == .handshaking ? .handshake : .transfer }

  /// What has been negotiated; `nil` without TLS.
  var negotiated: TLSNegotiation? { engine?.negotiated }

  /// Who the peer says it is, believed or not.
  var presentedIdentity: PeerIdentity? { engine?.peerIdentity ?? engine?.presentedIdentity }

  /// Bytes that wait to be sent.
  var pendingOutputBytes: Int { output.count - sealedCount + socket.backlogBytes }

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
    lastRecordAt = loop.core.now
    if engine != nil {
      loop.core.arm(timer, at: deadline ?? loop.core.now + limits.handshakeDeadline)
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

  /// Replaces the delegate, when the connection changes its protocol.
  func setDelegate(_ delegate: any ByteStreamDelegate) {
    self.delegate = delegate
  }

  /// Says that `output` has grown: it goes out at the end of the pass or of the turn.
  func outputAppended(on loop: isolated EventLoop) {
    if isOutputFull { owesDrained = true }
    guard !isInPass else { return }
    // Not from within `streamDrained`, which flushing calls.
    if sealedCount == 0, output.count > 2 * LoopBuffers.sealBytes, !isTellingDrained {
      flush(on: loop)
    }
    loop.core.markDirty(socket)
  }

  /// Has `streamEmptied` called, once, when all output has been sent.
  func tellWhenEmpty() {
    owesEmptied = true
  }

  /// Stops handing over input; the peer soon meets TCP's flow control.
  func pauseReading(on loop: isolated EventLoop) {
    isPausedByDelegate = true
    updateReading(on: loop)
  }

  /// Goes on handing over input, first what was left, at the end of this turn.
  func resumeReading(on loop: isolated EventLoop) {
    guard isPausedByDelegate else { return }
    isPausedByDelegate = false
    updateReading(on: loop)
    // Within a pass nobody knows yet what it will leave.
    if isInPass || !leftover.isEmpty || hasEnded {
      wantsRedelivery = true
      loop.core.markDirty(socket)
    }
  }

  /// Sends what waits and closes in order: close_notify, end of stream, then the peer's own.
  func close(on loop: isolated EventLoop) {
    guard state == .open else {
      if state == .handshaking { end(nil, on: loop) }
      return
    }
    state = .closing
    loop.core.arm(timer, after: limits.writeStallDeadline)
    loop.core.markDirty(socket)
  }

  /// The same, without waiting for the peer: what the kernel has still reaches it.
  func finish(on loop: isolated EventLoop) {
    close(on: loop)
    if state == .closing { flush(on: loop) }
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
      sendAlert(on: loop)
      end(error, lingers: engine != nil && !hasEnded, on: loop)
    }
  }

  func socketDrained(on loop: isolated EventLoop) {
    guard state != .closed else { return }
    unsentAnswerBytes = 0
    // The peer takes bytes: the stall is over.
    switch state {
    case .open: loop.core.cancel(timer)
    case .closing: loop.core.arm(timer, after: limits.writeStallDeadline)
    case .handshaking, .closed: break
    }
    flush(on: loop)
  }

  func socketTurnEnded(on loop: isolated EventLoop) {
    if state == .handshaking, side == .server { return takeHandshakeStep(on: loop) }
    if wantsRedelivery, state == .open {
      if isHeldByOutput { flush(on: loop) }
      if !isHeldByOutput { redeliver(on: loop) }
    }
    if state != .closed { flush(on: loop) }
  }

  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
    // What a server has said before it failed is still there when a client goes on reading. (A client that
    // has failed waits for no answer: there it is better known at once.)
    if side == .client, state == .open, isPausedByDelegate, !hasEnded, pendingOutputBytes == 0 {
      return socket.postpone(error, on: loop)
    }
    end(TransportError(error, stage: stage, peer: remoteAddress), on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    switch state {
    case .handshaking:
      let stage = TransportError.Stage.handshake
      end(.timedOut(stage, after: limits.handshakeDeadline, peer: remoteAddress), on: loop)
    case .open:
      end(.timedOut(.transfer, after: limits.writeStallDeadline, peer: remoteAddress), on: loop)
    case .closing where hasShutDown:
      end(nil, on: loop)
    case .closing:
      end(.timedOut(.transfer, after: limits.writeStallDeadline, peer: remoteAddress), on: loop)
    case .closed:
      break
    }
  }

  // MARK: Input

  private func readCiphertext(
    _ engine: TLSEngine, on loop: isolated EventLoop
  ) throws(TransportError) {
    // Input behind a close_notify or an error is nobody's.
    defer { buffers.window.takeBack() }
    switch unsafe try receive(into: buffers.ciphertext) {
    case .wouldBlock:
      return
    case .endOfStream:
      // Once this side closes, nothing that the peer could still say is missed.
      if state != .closing, let error = engine.endOfInput() {
        throw TransportError(error, peer: remoteAddress)
      }
      return inputEnded(on: loop)
    case .bytes(let count):
      unsafe buffers.window.lend(UnsafeRawBufferPointer(rebasing: buffers.ciphertext[..<count]))
    }
    if state == .handshaking {
      stepHandshake(on: loop)
      guard state == .open else { return }
    }
    buffers.beginPass(with: leftover)
    let (count, isEnd) = try decrypt(engine, from: leftover.count, on: loop)
    buffers.window.takeBack()
    deliver(count, on: loop)
    if isEnd { inputEnded(on: loop) }
    if state == .open || state == .closing { flush(on: loop) }
  }

  /// Decrypts everything that was received; returns how much plaintext there is, with what was left
  /// before, and whether the peer has closed its direction.
  private func decrypt(
    _ engine: TLSEngine, from start: Int, on loop: isolated EventLoop
  ) throws(TransportError) -> (Int, Bool) {
    var have = start
    var isEnd = false
    reading: while true {
      let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffers.plaintext[have...])
      do {
        switch try unsafe engine.read(into: room) {
        case .bytes(let count): have += count
        case .wantsInput: break reading
        case .closed:
          isEnd = true
          break reading
        }
      } catch {
        throw TransportError(error, peer: remoteAddress)
      }
    }
    // What reading itself wrote (a key update's answer) leaves before anybody else uses the window.
    let waited = socket.backlogBytes
    try sendSealed(on: loop)
    unsentAnswerBytes += socket.backlogBytes - waited
    guard unsentAnswerBytes <= Self.unsentAnswerBytesMax else {
      throw TransportError(
        .limitReached, stage: .transfer,
        message: "the peer does not take TLS's answers to its key updates", peer: remoteAddress)
    }
    return (have, isEnd)
  }

  private func readPlaintext(on loop: isolated EventLoop) throws(TransportError) {
    buffers.beginPass(with: leftover)
    let have = leftover.count
    let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffers.plaintext[have...])
    switch try unsafe receive(into: room) {
    case .wouldBlock:
      return
    case .endOfStream:
      inputEnded(on: loop)
    case .bytes(let count):
      deliver(have + count, on: loop)
    }
    if state == .open || state == .closing { flush(on: loop) }
  }

  func receive(
    into buffer: UnsafeMutableRawBufferPointer
  ) throws(TransportError) -> StreamSocket.Received {
    do {
      return try unsafe socket.receive(into: buffer)
    } catch {
      throw TransportError(error, stage: stage, peer: remoteAddress)
    }
  }

  /// Hands the first `count` bytes of the plaintext buffer to the delegate and keeps what it leaves.
  private func deliver(_ count: Int, on loop: isolated EventLoop) {
    guard state == .open, count > 0, let delegate else {
      leftover = []
      return
    }
    if isPausedByDelegate || isHeldByOutput {
      wantsRedelivery = !isPausedByDelegate
      keep(0..<count)
      return
    }
    isInPass = true
    if output.isEmpty { output = buffers.takeOutput() }
    let bytes = unsafe UnsafeMutableBufferPointer(
      rebasing: buffers.plaintext.assumingMemoryBound(to: UInt8.self)[..<count])
    var span = unsafe bytes.mutableSpan
    let consumed = delegate.streamReceived(&span, on: loop)
    isInPass = false
    guard state == .open else { return }
    keep(min(max(consumed, 0), count)..<count)
    // What the delegate left because of its own output comes again when that has gone.
    if isHeldByOutput, !leftover.isEmpty { wantsRedelivery = true }
  }

  /// Whether a client does not take its replies: what it has asked for besides waits, read or not.
  private var isHeldByOutput: Bool { side == .server && (isPausedByOutput || isOutputFull) }

  private func keep(_ range: Range<Int>) {
    if range.isEmpty {
      if !leftover.isEmpty { leftover = [] }
    } else {
      leftover = unsafe Array(UnsafeRawBufferPointer(rebasing: buffers.plaintext[range]))
    }
  }

  private func redeliver(on loop: isolated EventLoop) {
    wantsRedelivery = false
    if !leftover.isEmpty {
      buffers.beginPass(with: leftover)
      deliver(leftover.count, on: loop)
    }
    if hasEnded, !wantsRedelivery, !isPausedByDelegate, state == .open {
      delegate?.streamEnded(on: loop)
    }
  }

  private func inputEnded(on loop: isolated EventLoop) {
    switch state {
    case .open:
      hasEnded = true
      updateReading(on: loop)
      if wantsRedelivery || isPausedByDelegate { return }
      delegate?.streamEnded(on: loop)
    case .closing:
      // The peer has closed its direction only: it still gets everything, and close_notify.
      hasEnded = true
      updateReading(on: loop)
      if hasShutDown { end(nil, on: loop) } else { finishClosing(on: loop) }
    case .handshaking, .closed:
      break
    }
  }

  func updateReading(on loop: isolated EventLoop) {
    let reads = !isPausedByDelegate && !(isPausedByOutput && side == .server) && !hasEnded
    do {
      try socket.setReading(reads, on: loop)
    } catch {
      end(TransportError(error, stage: stage, peer: remoteAddress), on: loop)
    }
  }

  func open(on loop: isolated EventLoop) {
    state = .open
    delegate?.streamOpened(on: loop)
  }

  /// Sends the alert that OpenSSL has queued, if the socket takes it.
  func sendAlert(on loop: isolated EventLoop) {
    if engine != nil { try? sendSealed(on: loop) }
  }

  // MARK: Output

  /// Encrypts and sends what waits, as far as the kernel takes it.
  private func flush(on loop: isolated EventLoop) {
    do throws(TransportError) {
      while sealedCount < output.count, socket.backlogBytes == 0 {
        try sealSome(on: loop)
      }
    } catch {
      return end(error, on: loop)
    }
    if sealedCount == output.count, output.capacity > 0 {
      sealedCount = 0
      buffers.giveBack(&output)
    } else if sealedCount >= LoopBuffers.sealBytes, sealedCount * 2 >= output.count {
      // A peer that never catches up must not keep what it has been sent.
      output.removeFirst(sealedCount)
      sealedCount = 0
    }
    outputChanged(on: loop)
  }

  private func sealSome(on loop: isolated EventLoop) throws(TransportError) {
    let count = min(output.count - sealedCount, LoopBuffers.sealBytes)
    let range = sealedCount..<(sealedCount + count)
    let plaintext = output  // a reference, not a copy
    if let engine {
      do {
        try unsafe plaintext.span.withUnsafeBytes { bytes throws(TLSError) in
          try unsafe engine.write(UnsafeRawBufferPointer(rebasing: bytes[range]))
        }
        sealedCount += count
      } catch {
        throw TransportError(error, peer: remoteAddress)
      }
      try sendSealed(on: loop)
    } else {
      try unsafe plaintext.span.withUnsafeBytes { bytes throws(TransportError) in
        try unsafe send(UnsafeRawBufferPointer(rebasing: bytes[range]), on: loop)
      }
      sealedCount += count
    }
  }

  func sendSealed(on loop: isolated EventLoop) throws(TransportError) {
    let window = buffers.window
    // Whatever comes of it, no other connection of the loop may find these bytes.
    defer { window.dropOutput() }
    unsafe try window.withOutput { bytes throws(TransportError) in
      if unsafe !bytes.isEmpty { try unsafe send(bytes, on: loop) }
    }
  }

  private func send(
    _ bytes: UnsafeRawBufferPointer, on loop: isolated EventLoop
  ) throws(TransportError) {
    do {
      try unsafe socket.send(bytes, on: loop)
    } catch {
      throw TransportError(error, stage: stage, peer: remoteAddress)
    }
  }

  /// After a change of what waits: back-pressure, the stall deadline, and the end of a close.
  private func outputChanged(on loop: isolated EventLoop) {
    switch state {
    case .open:
      let pending = pendingOutputBytes
      if pending == 0 {
        if timer.isArmed { loop.core.cancel(timer) }
        if owesEmptied {
          owesEmptied = false
          delegate?.streamEmptied(on: loop)
        }
      } else if !timer.isArmed {
        loop.core.arm(timer, after: limits.writeStallDeadline)
      }
      applyBackPressure(pending, on: loop)
    case .closing:
      finishClosing(on: loop)
    case .handshaking, .closed:
      break
    }
  }

  private func applyBackPressure(_ pending: Int, on loop: isolated EventLoop) {
    // A client goes on reading while its writes wait, or both ends could wait for ever.
    if pending > limits.outputHighWaterBytes {
      owesDrained = true
      guard !isPausedByOutput else { return }
      isPausedByOutput = true
      if side == .server { updateReading(on: loop) }
    } else if pending <= limits.outputLowWaterBytes, owesDrained {
      owesDrained = false
      if isPausedByOutput {
        isPausedByOutput = false
        if side == .server { updateReading(on: loop) }
      }
      isTellingDrained = true
      delegate?.streamDrained(on: loop)
      isTellingDrained = false
      if wantsRedelivery { loop.core.markDirty(socket) }
    }
  }

  /// With everything sent, says that nothing follows; the peer's end of stream ends the connection.
  private func finishClosing(on loop: isolated EventLoop) {
    guard sealedCount == output.count, socket.backlogBytes == 0 else { return }
    if let engine, !hasSentClose {
      hasSentClose = true
      engine.closeNotify()
      try? sendSealed(on: loop)
    }
    guard socket.backlogBytes == 0, !hasShutDown else { return }
    hasShutDown = true
    socket.shutDownWriting()
    loop.core.arm(timer, after: limits.closeDeadline)
    if hasEnded { return end(nil, on: loop) }
    isPausedByDelegate = false
    isPausedByOutput = false
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
    buffers.giveBack(&output)
    sealedCount = 0
    leftover = []
    if engine == nil, error != nil {
      // Without TLS only a reset tells a peer that what it has is not the whole.
      socket.reset(on: loop)
    } else if lingers {
      SocketLinger.close(socket, after: limits.closeDeadline, on: loop)
    } else {
      socket.close(on: loop)
    }
    let delegate = self.delegate
    self.delegate = nil
    delegate?.streamClosed(error, on: loop)
  }
}
