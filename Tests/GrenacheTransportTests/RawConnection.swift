import Glibc
import GrenacheIO
import Testing

/// A TCP connection that says exactly what a test wants, well-formed or not.
struct RawConnection: Sendable {
  private let peer: LoopBound<Peer>

  /// What has come so far.
  struct Received: Sendable {
    var bytes: [UInt8]
    var isEnded: Bool
    var text: String { String(decoding: bytes, as: UTF8.self) }
    /// What follows the head of the first response.
    var body: ArraySlice<UInt8> {
      guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return [] }
      return bytes[end.upperBound...]
    }
  }

  private final class Peer: StreamSocketDelegate {
    let socket: StreamSocket
    var received: [UInt8] = []
    var isEnded = false
    var changed = LoopPromise<Void>()
    private let readSize: Int

    init(_ socket: StreamSocket, readSize: Int) {
      self.socket = socket
      self.readSize = readSize
    }

    private func tell(on loop: isolated EventLoop) {
      changed.fulfil((), on: loop)
      changed = LoopPromise()
    }

    func socketReadable(on loop: isolated EventLoop) {
      var buffer = [UInt8](repeating: 0, count: readSize)
      let outcome = buffer.withUnsafeMutableBytes { try? socket.receive(into: $0) }
      switch outcome {
      case .bytes(let count): received += buffer[..<count]
      case .wouldBlock: return
      case .endOfStream, nil:
        isEnded = true
        socket.close(on: loop)
      }
      tell(on: loop)
    }

    func socketDrained(on loop: isolated EventLoop) {}
    func socketTurnEnded(on loop: isolated EventLoop) {}
    func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
      isEnded = true
      socket.close(on: loop)
      tell(on: loop)
    }
  }

  /// - Parameter readSize: what is read at once.
  init(to address: SocketAddress, reads: Bool = true, readSize: Int = 1 << 16) async throws {
    peer = try await Self.connect(
      to: address, reads: reads, readSize: readSize, on: EventLoopGroup.shared().next())
  }

  private static func connect(
    to address: SocketAddress, reads: Bool, readSize: Int, on loop: isolated EventLoop
  ) async throws -> LoopBound<Peer> {
    let socket = try await StreamSocket.connect(to: address, by: .now() + .seconds(5), on: loop)
    let peer = Peer(socket, readSize: readSize)
    socket.delegate = peer
    try socket.setReading(reads, on: loop)
    return LoopBound(peer, on: loop)
  }

  func send(_ text: String) async { await send(Array(text.utf8)) }

  func send(_ bytes: [UInt8]) async {
    let peer = peer
    await peer.loop.run { loop in
      let socket = peer.get(on: loop).socket
      guard !socket.isClosed else { return }
      do throws(SystemCallError) {
        try bytes.span.withUnsafeBytes { bytes throws(SystemCallError) in
          try socket.send(bytes, on: loop)
        }
      } catch {
        // A peer that has closed already is part of what is tested; anything else is not.
        if error.errno != EPIPE, error.errno != ECONNRESET { Issue.record(error) }
      }
    }
  }

  /// Bytes that the kernel does not take because the other end does not read.
  var backlogBytes: Int {
    get async {
      let peer = peer
      return await peer.loop.run { loop in peer.get(on: loop).socket.backlogBytes }
    }
  }

  func startReading() async {
    let peer = peer
    await peer.loop.run { loop in try? peer.get(on: loop).socket.setReading(true, on: loop) }
  }

  /// Closes this direction only: it has said everything, and still listens.
  func endSending() async {
    let peer = peer
    await peer.loop.run { loop in peer.get(on: loop).socket.shutDownWriting() }
  }

  /// Closes without a word: the other end sees a reset.
  func reset() async {
    let peer = peer
    await peer.loop.run { loop in
      let socket = peer.get(on: loop).socket
      var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
      let size = socklen_t(MemoryLayout<linger>.size)
      _ = setsockopt(socket.descriptor, SOL_SOCKET, SO_LINGER, &linger, size)
      socket.close(on: loop)
    }
  }

  func close() async {
    let peer = peer
    await peer.loop.run { loop in peer.get(on: loop).socket.close(on: loop) }
  }

  /// Everything received so far, once it satisfies `condition`, the peer has closed, or time is up.
  func received(
    within time: Duration = .seconds(10), until condition: @Sendable ([UInt8], Bool) -> Bool
  ) async -> Received {
    await Self.wait(peer, .now() + time, condition, on: peer.loop)
  }

  /// Everything up to the end of the stream.
  func receivedToEnd(within time: Duration = .seconds(10)) async -> Received {
    await received(within: time) { _, isEnded in isEnded }
  }

  private static func wait(
    _ peer: LoopBound<Peer>, _ deadline: MonotonicTime,
    _ condition: @Sendable ([UInt8], Bool) -> Bool, on loop: isolated EventLoop
  ) async -> Received {
    let peer = peer.get(on: loop)
    while !peer.isEnded, !condition(peer.received, peer.isEnded), MonotonicTime.now() < deadline {
      // A promise is waited for once: after a time-out this one would hold up the loop.
      if peer.changed.isOver { peer.changed = LoopPromise() }
      _ = await peer.changed.wait(until: deadline, on: loop)
    }
    return Received(bytes: peer.received, isEnded: peer.isEnded)
  }
}

extension String {
  /// How often `part` occurs.
  func count(of part: String) -> Int {
    var count = 0
    var rest = self[...]
    while let range = rest.firstRange(of: part) {
      count += 1
      rest = rest[range.upperBound...]
    }
    return count
  }
}
