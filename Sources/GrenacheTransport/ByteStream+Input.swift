internal import GrenacheIO
internal import GrenacheTLS

/// Input: from the socket into memory of the loop, and from there to the delegate, unless it is held.
extension ByteStream {
  /// Stops handing over input; the peer soon meets TCP's flow control.
  func pauseReading(on loop: isolated EventLoop) {
    input.pause()
    updateReading(on: loop)
  }

  /// Goes on handing over input, first what was left, at the end of this turn.
  func resumeReading(on loop: isolated EventLoop) {
    guard input.resume() else { return }
    updateReading(on: loop)
    if input.askAgain() { loop.core.markDirty(socket) }
  }

  func readCiphertext(
    _ engine: TLSEngine, on loop: isolated EventLoop
  ) throws(TransportError) {
    defer { wire.takeBack() }
    switch try wire.receiveCiphertext(at: stage) {
    case .wouldBlock:
      return
    case .endOfStream:
      // Once this side closes, nothing that the peer could still say is missed.
      if !isClosing, let error = engine.endOfInput() {
        throw TransportError(error, peer: remoteAddress)
      }
      return inputEnded(on: loop)
    case .bytes:
      break
    }
    if state == .handshaking {
      stepHandshake(on: loop)
      guard state == .open else { return }
    }
    buffers.beginPass(with: input.leftover)
    let (count, isEnd) = try wire.decrypt(engine, behind: input.leftover.count)
    try sendAnswers(on: loop)
    wire.takeBack()
    deliver(count, on: loop)
    if isEnd { inputEnded(on: loop) }
    if state == .open || isClosing { flush(on: loop) }
  }

  /// What reading itself wrote (a key update's answer) leaves before anybody else uses the window.
  private func sendAnswers(on loop: isolated EventLoop) throws(TransportError) {
    let waited = socket.backlogBytes
    try wire.sendSealed(at: stage, on: loop)
    guard answers.spend(socket.backlogBytes - waited) else {
      throw TransportError(
        .limitReached, stage: .transfer,
        message: "the peer does not take TLS's answers to its key updates", peer: remoteAddress)
    }
  }

  func readPlaintext(on loop: isolated EventLoop) throws(TransportError) {
    buffers.beginPass(with: input.leftover)
    let have = input.leftover.count
    let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffers.plaintext[have...])
    switch try unsafe wire.receive(into: room, at: stage) {
    case .wouldBlock:
      return
    case .endOfStream:
      inputEnded(on: loop)
    case .bytes(let count):
      deliver(have + count, on: loop)
    }
    if state == .open || isClosing { flush(on: loop) }
  }

  /// Hands the first `count` bytes of the plaintext buffer to the delegate and keeps what it leaves.
  private func deliver(_ count: Int, on loop: isolated EventLoop) {
    guard state == .open, count > 0, let delegate else { return input.drop() }
    let bytes = unsafe UnsafeMutableBufferPointer(
      rebasing: buffers.plaintext.assumingMemoryBound(to: UInt8.self)[..<count])
    var span = unsafe bytes.mutableSpan
    guard input.beginPass(isHeldByOutput: isHeldByOutput) else { return input.keep(span.span) }
    if queue.bytes.isEmpty { queue.bytes = buffers.takeOutput() }
    let consumed = delegate.streamReceived(&span, on: loop)
    input.endPass()
    guard state == .open else { return }
    input.keep(span.span.extracting(min(max(consumed, 0), count)..<count))
    if isHeldByOutput { input.heldByOutput() }
  }

  /// Whether a client does not take its replies: what it has asked for besides waits, read or not.
  var isHeldByOutput: Bool { side == .server && (pressure.isHigh || isOutputFull) }

  func redeliver(on loop: isolated EventLoop) {
    input.beginRedelivery()
    if !input.leftover.isEmpty {
      buffers.beginPass(with: input.leftover)
      deliver(input.leftover.count, on: loop)
    }
    if input.tellsEnd, state == .open { delegate?.streamEnded(on: loop) }
  }

  private func inputEnded(on loop: isolated EventLoop) {
    switch state {
    case .open:
      input.end()
      updateReading(on: loop)
      if input.tellsEnd { delegate?.streamEnded(on: loop) }
    case .closing(let farewell):
      // The peer has closed its direction only: it still gets everything, and close_notify.
      input.end()
      updateReading(on: loop)
      if farewell == .shutDown { end(nil, on: loop) } else { finishClosing(on: loop) }
    case .handshaking, .closed:
      break
    }
  }

  func updateReading(on loop: isolated EventLoop) {
    let reads = input.wantsMore && !(pressure.isHigh && side == .server)
    do {
      try socket.setReading(reads, on: loop)
    } catch {
      end(TransportError(error, stage: stage, peer: remoteAddress), on: loop)
    }
  }
}
