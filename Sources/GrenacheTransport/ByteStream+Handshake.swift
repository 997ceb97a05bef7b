internal import GrenacheIO
internal import GrenacheTLS

/// The handshake: a client's at once, a server's one record after the other, each in its turn.
extension ByteStream {
  /// Since when the client would have been waited for, had this side never taken any time; `nil` while a step
  /// of the handshake waits in line.
  var handshakeQuietSince: MonotonicTime? { handshakeWait.quietSince }

  /// A step of a server's handshake costs more than many calls of established connections: it waits
  /// in line until they have been served, and takes in no more than one record.
  func awaitHandshakeStep(on loop: isolated EventLoop) {
    do {
      try socket.setReading(false, on: loop)
      handshakeWait.stepDue(at: loop.core.now)
      loop.core.waitInLine(socket)
    } catch {
      end(TransportError(error, stage: .handshake, peer: remoteAddress), on: loop)
    }
  }

  func takeHandshakeStep(on loop: isolated EventLoop) {
    handshakeWait.stepTaken(at: loop.core.now)
    do throws(TransportError) {
      try readHandshakeRecord(on: loop)
      if state == .handshaking || state == .open { updateReading(on: loop) }
    } catch {
      end(error, on: loop)
    }
  }

  /// Reads what there is of one record, and goes on with it.
  private func readHandshakeRecord(on loop: isolated EventLoop) throws(TransportError) {
    defer { buffers.window.takeBack() }
    var count = 0
    reading: repeat {
      let end = min(count + handshakeRecord.missingBytes, LoopBuffers.receiveBytes)
      let room = unsafe UnsafeMutableRawBufferPointer(rebasing: buffers.ciphertext[count..<end])
      switch unsafe try wire.receive(into: room, at: stage) {
      case .bytes(let some):
        unsafe handshakeRecord.advance(over: UnsafeRawBufferPointer(rebasing: room[..<some]))
        count += some
      case .endOfStream where count == 0:
        guard let error = engine?.endOfInput() else { return }
        throw TransportError(error, peer: remoteAddress)
      case .wouldBlock, .endOfStream:
        break reading
      }
    } while !handshakeRecord.isBetweenRecords && count < LoopBuffers.receiveBytes
    guard count > 0 else { return }
    unsafe buffers.window.lend(UnsafeRawBufferPointer(rebasing: buffers.ciphertext[..<count]))
    stepHandshake(on: loop)
  }

  func stepHandshake(on loop: isolated EventLoop) {
    guard let engine, state == .handshaking else { return }
    do throws(TLSError) {
      let progress = try engine.handshake()
      do throws(TransportError) {
        try wire.sendSealed(at: stage, on: loop)
      } catch {
        return end(error, on: loop)
      }
      guard progress == .done else { return }
      identity = engine.peerIdentity
      loop.core.cancel(timer)
      buffers.register(self, of: engine.context, on: loop)
      if let error = engine.recheckAfterReload() { throw error }
      open(on: loop)
    } catch {
      wire.sendAlert(at: stage, on: loop)
      end(TransportError(error, peer: remoteAddress), lingers: true, on: loop)
    }
  }
}
