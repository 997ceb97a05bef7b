internal import GrenacheIO
internal import GrenacheTLS

/// A socket, and TLS over it unless that was refused by a long name.
///
/// Both directions go through memory that the loop lends. Nothing of one connection may be left in it
/// when another one's turn comes: what is lent is taken back, what was encrypted is sent or dropped.
struct TLSSocket {
  let socket: StreamSocket
  let engine: TLSEngine?
  unowned let buffers: LoopBuffers

  /// Receives what is there, once.
  ///
  /// - Parameter stage: how far the connection is, should this fail.
  func receive(
    into buffer: UnsafeMutableRawBufferPointer, at stage: TransportError.Stage
  ) throws(TransportError) -> StreamSocket.Received {
    do {
      return try unsafe socket.receive(into: buffer)
    } catch {
      throw TransportError(error, stage: stage, peer: socket.remoteAddress)
    }
  }

  /// Receives ciphertext, once, and lends it to the engine until `takeBack`.
  func receiveCiphertext(
    at stage: TransportError.Stage
  ) throws(TransportError) -> StreamSocket.Received {
    let received = try unsafe receive(into: buffers.ciphertext, at: stage)
    if case .bytes(let count) = received {
      unsafe buffers.window.lend(UnsafeRawBufferPointer(rebasing: buffers.ciphertext[..<count]))
    }
    return received
  }

  /// Takes back what the engine has not read: behind a close_notify or an error it is nobody's.
  func takeBack() {
    buffers.window.takeBack()
  }

  /// Decrypts everything that was lent into the loop's plaintext buffer, behind the first `start` bytes.
  ///
  /// - Returns: how much plaintext there is, those included, and whether the peer has closed its
  ///   direction.
  func decrypt(
    _ engine: TLSEngine, behind start: Int
  ) throws(TransportError) -> (count: Int, isEnd: Bool) {
    var count = start
    while true {
      let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffers.plaintext[count...])
      do {
        switch try unsafe engine.read(into: room) {
        case .bytes(let more): count += more
        case .wantsInput: return (count, false)
        case .closed: return (count, true)
        }
      } catch {
        throw TransportError(error, peer: socket.remoteAddress)
      }
    }
  }

  /// Encrypts a part of `plaintext` and sends it, as far as the kernel takes it; the rest is the socket's
  /// backlog.
  func send(
    _ plaintext: [UInt8], _ range: Range<Int>, at stage: TransportError.Stage,
    on loop: isolated EventLoop
  ) throws(TransportError) {
    guard let engine else {
      return try unsafe plaintext.span.withUnsafeBytes { bytes throws(TransportError) in
        try unsafe transmit(UnsafeRawBufferPointer(rebasing: bytes[range]), at: stage, on: loop)
      }
    }
    do {
      try unsafe plaintext.span.withUnsafeBytes { bytes throws(TLSError) in
        try unsafe engine.write(UnsafeRawBufferPointer(rebasing: bytes[range]))
      }
    } catch {
      throw TransportError(error, peer: socket.remoteAddress)
    }
    try sendSealed(at: stage, on: loop)
  }

  /// Sends what the engine has written.
  func sendSealed(
    at stage: TransportError.Stage, on loop: isolated EventLoop
  ) throws(TransportError) {
    let window = buffers.window
    // Whatever comes of it, no other connection of the loop may find these bytes.
    defer { window.dropOutput() }
    unsafe try window.withOutput { bytes throws(TransportError) in
      if unsafe !bytes.isEmpty { try unsafe transmit(bytes, at: stage, on: loop) }
    }
  }

  /// Sends the alert that OpenSSL has queued, if the socket takes it.
  func sendAlert(at stage: TransportError.Stage, on loop: isolated EventLoop) {
    if engine != nil { try? sendSealed(at: stage, on: loop) }
  }

  /// Says that nothing follows (RFC 8446 §6.1), if the socket takes it.
  func sendCloseNotify(at stage: TransportError.Stage, on loop: isolated EventLoop) {
    guard let engine else { return }
    engine.closeNotify()
    try? sendSealed(at: stage, on: loop)
  }

  private func transmit(
    _ bytes: UnsafeRawBufferPointer, at stage: TransportError.Stage, on loop: isolated EventLoop
  ) throws(TransportError) {
    do {
      try unsafe socket.send(bytes, on: loop)
    } catch {
      throw TransportError(error, stage: stage, peer: socket.remoteAddress)
    }
  }
}
