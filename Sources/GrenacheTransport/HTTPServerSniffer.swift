internal import GrenacheIO
internal import GrenacheTLS

/// Waits for the first TLS record of a connection, and leaves it where it is. Where a connection may be in
/// the clear, its first byte says so: 22 begins a TLS handshake (RFC 8446 §5.1) and no HTTP request.
final class HTTPServerSniffer: StreamSocketDelegate, LoopTimerTarget {
  static let handshakeType: UInt8 = 22

  let number: HTTPServerEntrance.Number
  let socket: StreamSocket
  let beganAt: MonotonicTime
  private unowned let entrance: HTTPServerEntrance
  private var isTLS: Bool
  /// How much of the first record has been seen.
  private var seenBytes = 0
  private lazy var timer = TargetTimer(self)

  init(
    _ socket: StreamSocket, number: HTTPServerEntrance.Number, entrance: HTTPServerEntrance,
    mayBePlain: Bool
  ) {
    self.socket = socket
    self.number = number
    self.entrance = entrance
    isTLS = !mayBePlain
    beganAt = .now()
  }

  func start(on loop: isolated EventLoop) {
    socket.delegate = self
    loop.core.arm(timer, at: beganAt + entrance.patience(isTLS: isTLS))
    do {
      try socket.setReading(true, on: loop)
    } catch {
      fail(error, on: loop)
    }
  }

  func close(on loop: isolated EventLoop) {
    loop.core.cancel(timer)
    socket.close(on: loop)
  }

  func socketReadable(on loop: isolated EventLoop) {
    let ciphertext = unsafe LoopBuffers.of(loop).ciphertext
    let room = unsafe UnsafeMutableRawBufferPointer(
      rebasing: ciphertext[..<TLSFirstRecord.seenBytesMax])
    do {
      switch try unsafe socket.peek(into: room) {
      case .wouldBlock:
        return
      case .endOfStream:
        ended(on: loop)
      case .bytes(let count):
        let seen = unsafe UnsafeBufferPointer(
          rebasing: UnsafeBufferPointer(room.assumingMemoryBound(to: UInt8.self))[..<count])
        try unsafe look(at: seen.span, on: loop)
      }
    } catch {
      fail(error, on: loop)
    }
  }

  private func look(
    at start: Span<UInt8>, on loop: isolated EventLoop
  ) throws(SystemCallError) {
    if !isTLS {
      guard start[0] == Self.handshakeType else { return try spoke(isTLS: false, on: loop) }
      isTLS = true
      loop.core.arm(timer, at: beganAt + entrance.patience(isTLS: true))
    }
    let needed = TLSFirstRecord.bytesNeeded(start)
    // The kernel does not wake this side for less; where it does, that is taken for a beginning.
    guard start.count < needed, start.count > seenBytes else {
      return try spoke(isTLS: true, on: loop)
    }
    guard !socket.hasPeerEnded else { return ended(on: loop) }
    seenBytes = start.count
    socket.setReadableBytes(needed)
  }

  private func spoke(isTLS: Bool, on loop: isolated EventLoop) throws(SystemCallError) {
    // It may have to wait for its handshake, and what has come stays readable.
    try socket.setReading(false, on: loop)
    if seenBytes > 0 { socket.setReadableBytes(1) }
    loop.core.cancel(timer)
    entrance.spoke(self, isTLS: isTLS, on: loop)
  }

  private func ended(on loop: isolated EventLoop) {
    guard isTLS else { return entrance.left(self, nil, on: loop) }
    let error = TransportError(
      .connectionClosed, stage: .handshake,
      message: "the peer closed the connection before its first record", peer: socket.remoteAddress)
    entrance.left(self, error, on: loop)
  }

  private func fail(_ error: SystemCallError, on loop: isolated EventLoop) {
    let error = TransportError(error, stage: .handshake, peer: socket.remoteAddress)
    entrance.left(self, isTLS ? error : nil, on: loop)
  }

  func socketDrained(on loop: isolated EventLoop) {}

  func socketTurnEnded(on loop: isolated EventLoop) {}

  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
    fail(error, on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    guard isTLS else {
      Refusals.count(.silent)
      return entrance.left(self, nil, on: loop)
    }
    let error = TransportError.timedOut(
      .handshake, after: entrance.patience(isTLS: true), peer: socket.remoteAddress)
    entrance.left(self, error, on: loop)
  }
}
