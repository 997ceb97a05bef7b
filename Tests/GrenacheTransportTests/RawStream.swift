import GrenacheFraming
import GrenacheIO
import TestSupport

@testable import GrenacheTLS
@testable import GrenacheTransport

/// A connection, over TLS or in the clear, on which a test says exactly what it wants.
struct RawStream: Sendable {
  /// What has come so far.
  struct Received: Sendable {
    var bytes: [UInt8]
    /// Whether the other end has closed in order.
    var isEnded: Bool
    var isClosed: Bool
    var text: String { String(decoding: bytes, as: UTF8.self) }
    /// What follows the head of the first message.
    var body: ArraySlice<UInt8> {
      guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return [] }
      return bytes[end.upperBound...]
    }
  }

  fileprivate let peer: LoopBound<RawPeer>

  /// Connects and shakes hands; without `tls` in the clear.
  init(to address: SocketAddress, tls: TLSContext? = nil) async throws {
    peer = try await Self.connect(to: address, tls, on: EventLoopGroup.shared().next())
  }

  fileprivate init(_ peer: LoopBound<RawPeer>) { self.peer = peer }

  private static func connect(
    to address: SocketAddress, _ tls: TLSContext?, on loop: isolated EventLoop
  ) async throws -> LoopBound<RawPeer> {
    let socket = try await StreamSocket.connect(to: address, by: .now() + .seconds(10), on: loop)
    let peer = RawPeer()
    let destination = Destination(Endpoint(address), verification: .name("127.0.0.1"))
    let stream = try Dialer.stream(
      over: socket, to: destination, context: tls, limits: ByteStreamLimits(), delegate: peer,
      by: .now() + .seconds(10), on: loop)
    peer.stream = stream
    stream.start(on: loop)
    // The stream has a deadline of its own for its handshake.
    while !peer.isOpen, !peer.isClosed {
      if peer.changed.isOver { peer.changed = LoopPromise() }
      _ = await peer.changed.wait(until: .now() + .seconds(10), on: loop)
    }
    if let failure = peer.failure { throw failure }
    return LoopBound(peer, on: loop)
  }

  func send(_ text: String) async { await send(Array(text.utf8)) }

  func send(_ bytes: [UInt8]) async {
    let peer = peer
    await peer.loop.run { loop in peer.get(on: loop).send(bytes, on: loop) }
  }

  func close() async {
    let peer = peer
    await peer.loop.run { loop in peer.get(on: loop).stream?.close(on: loop) }
  }

  /// Everything received so far, once it satisfies `condition`, the peer has closed, or time is up.
  func received(
    within time: Duration = .seconds(20), until condition: @Sendable ([UInt8]) -> Bool
  ) async -> Received {
    await Self.wait(peer, .now() + time, condition, on: peer.loop)
  }

  /// Everything up to the end.
  func receivedToEnd(within time: Duration = .seconds(20)) async -> Received {
    await received(within: time) { _ in false }
  }

  private static func wait(
    _ peer: LoopBound<RawPeer>, _ deadline: MonotonicTime,
    _ condition: @Sendable ([UInt8]) -> Bool, on loop: isolated EventLoop
  ) async -> Received {
    let peer = peer.get(on: loop)
    while !peer.isClosed, !condition(peer.received), MonotonicTime.now() < deadline {
      if peer.changed.isOver { peer.changed = LoopPromise() }
      _ = await peer.changed.wait(until: deadline, on: loop)
    }
    return Received(bytes: peer.received, isEnded: peer.isEnded, isClosed: peer.isClosed)
  }
}

/// A server each of whose connections a test takes over.
struct RawStreamServer: Sendable {
  let address: SocketAddress
  private let acceptor: LoopBound<Acceptor>

  init(tls: TLSContext? = nil) async throws {
    let loop = try EventLoopGroup.shared().next()
    acceptor = try await loop.run { loop in LoopBound(try Acceptor(tls, on: loop), on: loop) }
    let acceptor = acceptor
    address = await loop.run { loop in
      acceptor.get(on: loop).listener.localAddress ?? .loopback(port: 0)
    }
  }

  /// The next connection that was accepted; `nil` when none comes in time.
  func next() async -> RawStream? { await Self.next(acceptor, on: acceptor.loop) }

  func stop() async {
    let acceptor = acceptor
    await acceptor.loop.run { loop in acceptor.get(on: loop).listener.stop(on: loop) }
  }

  private static func next(
    _ acceptor: LoopBound<Acceptor>, on loop: isolated EventLoop
  ) async -> RawStream? {
    let acceptor = acceptor.get(on: loop)
    let deadline = MonotonicTime.now() + .seconds(20)
    while acceptor.accepted.isEmpty, MonotonicTime.now() < deadline {
      if acceptor.changed.isOver { acceptor.changed = LoopPromise() }
      _ = await acceptor.changed.wait(until: deadline, on: loop)
    }
    guard !acceptor.accepted.isEmpty else { return nil }
    return RawStream(LoopBound(acceptor.accepted.removeFirst(), on: loop))
  }

  private final class Acceptor: ListenSocketDelegate {
    let listener: ListenSocket
    let tls: TLSContext?
    var accepted: [RawPeer] = []
    var changed = LoopPromise<Void>()

    init(_ tls: TLSContext?, on loop: isolated EventLoop) throws {
      self.tls = tls
      listener = try ListenSocket(.loopback(port: 0))
      try listener.start(self, on: loop)
    }

    func accepted(_ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop) {
      let socket = StreamSocket(descriptor: descriptor, remoteAddress: remote)
      let window = LoopBuffers.of(loop).window
      let peer = RawPeer()
      let stream = ByteStream(
        socket: socket, side: .server,
        engine: tls.flatMap { try? TLSEngine(context: $0, role: .server, window: window) },
        limits: ByteStreamLimits(), delegate: peer, on: loop)
      peer.stream = stream
      stream.start(on: loop)
      accepted.append(peer)
      changed.fulfil((), on: loop)
      changed = LoopPromise()
    }
  }
}

/// What a raw connection has heard.
private final class RawPeer: ByteStreamDelegate {
  var stream: ByteStream?
  var received: [UInt8] = []
  var isOpen = false
  var isEnded = false
  var isClosed = false
  var failure: TransportError?
  var changed = LoopPromise<Void>()

  func send(_ bytes: [UInt8], on loop: isolated EventLoop) {
    guard let stream, stream.isOpen else { return }
    stream.output += bytes
    stream.outputAppended(on: loop)
  }

  private func tell(on loop: isolated EventLoop) {
    changed.fulfil((), on: loop)
    changed = LoopPromise()
  }

  func streamOpened(on loop: isolated EventLoop) {
    isOpen = true
    tell(on: loop)
  }

  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
    bytes.span.append(to: &received)
    tell(on: loop)
    return bytes.count
  }

  func streamEnded(on loop: isolated EventLoop) {
    isEnded = true
    stream?.close(on: loop)
  }

  func streamDrained(on loop: isolated EventLoop) {}

  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
    isClosed = true
    failure = error
    stream = nil
    tell(on: loop)
  }
}

extension TestAuthority {
  /// Somebody who has no certificate.
  func nobody() throws -> TLSContext {
    var tls = try client()
    tls.certificate = .pem("")
    tls.key = .pem("")
    return try TLSContext(tls, isChecked: false)
  }
}
