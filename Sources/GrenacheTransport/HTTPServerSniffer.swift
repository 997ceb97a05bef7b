internal import Glibc
internal import GrenacheIO

/// Waits for the first byte of a connection, and leaves it where it is: 22 begins a TLS handshake
/// (RFC 8446 §5.1) and no HTTP request.
final class HTTPServerSniffer: StreamSocketDelegate, LoopTimerTarget {
  static let handshakeType: UInt8 = 22

  private let socket: StreamSocket
  private unowned let shard: HTTPServerShard
  private lazy var timer = TargetTimer(self)

  init(_ socket: StreamSocket, shard: HTTPServerShard) {
    self.socket = socket
    self.shard = shard
  }

  func start(on loop: isolated EventLoop) {
    socket.delegate = self
    loop.core.arm(timer, after: shard.configuration.headDeadline)
    do {
      try socket.setReading(true, on: loop)
    } catch {
      close(on: loop)
    }
  }

  func close(on loop: isolated EventLoop) {
    loop.core.cancel(timer)
    shard.sniffed(self, on: loop)
    socket.close(on: loop)
  }

  func socketReadable(on loop: isolated EventLoop) {
    var byte: UInt8 = 0
    let count = unsafe recv(socket.descriptor, &byte, 1, Int32(MSG_PEEK))
    if count < 0, errno == EAGAIN || errno == EINTR { return }
    guard count == 1 else { return close(on: loop) }
    do {
      // It may have to wait for its handshake, and the byte stays readable.
      try socket.setReading(false, on: loop)
    } catch {
      return close(on: loop)
    }
    loop.core.cancel(timer)
    shard.sniffed(self, on: loop)
    shard.admit(socket, isTLS: byte == Self.handshakeType, on: loop)
  }

  func socketDrained(on loop: isolated EventLoop) {}

  func socketTurnEnded(on loop: isolated EventLoop) {}

  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
    close(on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    Refusals.count(.silent)
    close(on: loop)
  }
}
