internal import GrenacheIO

/// Keeps a socket for a moment after its last words have been sent, and throws away what still comes.
///
/// A socket that is closed with bytes unread answers them with a reset, and the reset takes the alert
/// away from a peer that has not read it yet: it would see a broken connection in place of the reason.
final class SocketLinger: StreamSocketDelegate, LoopTimerTarget {
  /// Sockets of one loop that may linger at once; more are closed at once.
  static let countMax = 256
  /// What a peer may still send before it is cut off.
  static let discardedBytesMax = 256 << 10

  private let socket: StreamSocket
  private unowned let buffers: LoopBuffers
  private var discarded = 0
  private lazy var timer = TargetTimer(self)

  private init(_ socket: StreamSocket, buffers: LoopBuffers) {
    self.socket = socket
    self.buffers = buffers
  }

  /// Ends the stream and closes the socket once the peer has closed it, or after `deadline`.
  static func close(
    _ socket: StreamSocket, after deadline: Duration, on loop: isolated EventLoop
  ) {
    let buffers = LoopBuffers.of(loop)
    guard socket.backlogBytes == 0, buffers.lingeringCount < countMax else {
      return socket.close(on: loop)
    }
    let linger = SocketLinger(socket, buffers: buffers)
    buffers.lingeringCount += 1
    socket.delegate = linger
    socket.shutDownWriting()
    loop.core.arm(linger.timer, after: deadline)
    do {
      try socket.setReading(true, on: loop)
    } catch {
      linger.end(on: loop)
    }
  }

  func socketReadable(on loop: isolated EventLoop) {
    do {
      if case .bytes(let count) = try unsafe socket.receive(into: buffers.ciphertext) {
        discarded += count
        if discarded <= Self.discardedBytesMax { return }
      }
    } catch {}
    end(on: loop)
  }

  func socketDrained(on loop: isolated EventLoop) {}

  func socketTurnEnded(on loop: isolated EventLoop) {}

  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
    end(on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    end(on: loop)
  }

  private func end(on loop: isolated EventLoop) {
    guard !socket.isClosed else { return }
    buffers.lingeringCount -= 1
    loop.core.cancel(timer)
    socket.close(on: loop)
  }
}
