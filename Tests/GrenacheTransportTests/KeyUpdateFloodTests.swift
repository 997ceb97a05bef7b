import COpenSSL
import Glibc
import GrenacheFraming
import GrenacheIO
import TestSupport
import Testing

@testable import GrenacheTLS
@testable import GrenacheTransport

@Suite("RFC 8446 §4.6.3 a peer that asks for new keys and takes no answer", .timeLimit(.minutes(1)))
struct KeyUpdateFloodTests {
  @Test(
    "what a peer does not take of TLS's own answers is bounded, though data comes between, on either side",
    arguments: [ByteStream.Side.client, .server])
  func unread(_ side: ByteStream.Side) async throws {
    let authority = try TestAuthority()
    let loop = try EventLoopGroup(count: 1).loops[0]
    let error = try await Self.run(
      side, client: try TLSContext(authority.client()), server: try TLSContext(authority.host()),
      on: loop)
    #expect(error?.code == .limitReached)
  }

  /// Has one end ask for keys without end; how the other one closes.
  private static func run(
    _ side: ByteStream.Side, client: TLSContext, server: TLSContext, on loop: isolated EventLoop
  ) async throws -> TransportError? {
    let (near, far) = try await sockets(on: loop)
    let window = LoopBuffers.of(loop).window
    let asClient = TLSEngine.Role.client(
      serverName: nil, verification: .anyPeerThatTheRootsVouchFor)
    let isClient = side == .client
    let listener = Listener()
    let stream = ByteStream(
      socket: near, side: side,
      engine: try TLSEngine(
        context: isClient ? client : server, role: isClient ? asClient : .server, window: window),
      limits: ByteStreamLimits(), delegate: listener, on: loop)
    let flooder = try Flooder(
      far, context: isClient ? server : client, role: isClient ? .server : asClient)
    far.delegate = flooder
    try far.setReading(true, on: loop)
    stream.start(on: loop)
    try flooder.step(on: loop)
    guard
      case .value(let error) = await listener.closed.wait(until: .now() + .seconds(20), on: loop)
    else { return nil }
    far.close(on: loop)
    return error
  }

  /// Both ends of a connection for which the kernel keeps little.
  private static func sockets(
    on loop: isolated EventLoop
  ) async throws -> (StreamSocket, StreamSocket) {
    var ends: [Int32] = [0, 0]
    #expect(
      socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends) == 0)
    for end in ends {
      var size: Int32 = 8 << 10
      setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, 4)
    }
    let address = SocketAddress.loopback(port: 1)
    return (
      StreamSocket(descriptor: ends[0], remoteAddress: address),
      StreamSocket(descriptor: ends[1], remoteAddress: address)
    )
  }

  /// Hears how the connection ends.
  private final class Listener: ByteStreamDelegate {
    let closed = LoopPromise<TransportError?>()
    func streamOpened(on loop: isolated EventLoop) {}
    func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
      bytes.count
    }
    func streamEnded(on loop: isolated EventLoop) {}
    func streamDrained(on loop: isolated EventLoop) {}
    func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
      closed.fulfil(error, on: loop)
    }
  }

  /// Shakes hands, and from then on asks for keys and reads nothing.
  private final class Flooder: StreamSocketDelegate {
    private let socket: StreamSocket
    private let engine: TLSEngine
    private let window = TLSWindow()
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)
    private var isOpen = false

    init(_ socket: StreamSocket, context: TLSContext, role: TLSEngine.Role) throws {
      self.socket = socket
      engine = try TLSEngine(context: context, role: role, window: window)
    }

    func step(on loop: isolated EventLoop) throws {
      if try engine.handshake() == .done {
        isOpen = true
        try socket.setReading(false, on: loop)
      }
      try send(on: loop)
      if isOpen { try flood(on: loop) }
    }

    private func flood(on loop: isolated EventLoop) throws {
      while socket.backlogBytes == 0, !socket.isClosed {
        for _ in 0..<30 {
          #expect(SSL_key_update(engine.ssl, SSL_KEY_UPDATE_REQUESTED) == 1)
          #expect(SSL_do_handshake(engine.ssl) == 1)
        }
        try [UInt8(1)].withUnsafeBytes { try engine.write($0) }
        try send(on: loop)
      }
    }

    private func send(on loop: isolated EventLoop) throws {
      try window.withOutput { bytes in
        if !bytes.isEmpty { try socket.send(bytes, on: loop) }
      }
      window.dropOutput()
    }

    func socketReadable(on loop: isolated EventLoop) {
      do {
        guard
          case .bytes(let count) = try buffer.withUnsafeMutableBytes({
            try socket.receive(into: $0)
          })
        else { return socket.close(on: loop) }
        try buffer.withUnsafeBytes { bytes in
          window.lend(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
          try step(on: loop)
        }
        window.takeBack()
      } catch {
        socket.close(on: loop)
      }
    }

    func socketDrained(on loop: isolated EventLoop) {
      do { try flood(on: loop) } catch { socket.close(on: loop) }
    }
    func socketTurnEnded(on loop: isolated EventLoop) {}
    func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
      socket.close(on: loop)
    }
  }
}
