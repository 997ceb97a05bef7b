import Glibc
import GrenacheIO
import Testing

@testable import GrenacheTransport

@Suite("P38 Output of more than a turn's share", .timeLimit(.minutes(1)))
struct LargeOutputTests {
  private static let part = LoopBuffers.flushBytes

  @Test("of a large message 64 KiB are sent in one go, the rest in the turns that follow, in order")
  func inParts() async throws {
    let loop = try EventLoopGroup(count: 1).loops[0]
    try await Self.sendInParts(on: loop)
  }

  private static func sendInParts(on loop: isolated EventLoop) async throws {
    let (near, far) = try sockets()
    let reader = Reader(far)
    let stream = ByteStream(
      socket: near, side: .server, engine: nil, limits: ByteStreamLimits(), delegate: Producer(),
      on: loop)
    stream.start(on: loop)
    let message = (0..<(3 * part + 1)).map { UInt8(truncatingIfNeeded: $0 / 251) }
    stream.output += message
    for _ in 0..<2 {
      stream.flush(on: loop)
      #expect(reader.receive() == part)
    }
    try far.setReading(true, on: loop)
    stream.close(on: loop)
    _ = await reader.ended.wait(until: .now() + .seconds(20), on: loop)
    #expect(reader.received == message)
  }

  @Test("who takes leave at once sends all that the kernel takes")
  func finishing() async throws {
    let loop = try EventLoopGroup(count: 1).loops[0]
    try await Self.finish(on: loop)
  }

  private static func finish(on loop: isolated EventLoop) async throws {
    let (near, far) = try sockets()
    let reader = Reader(far)
    let stream = ByteStream(
      socket: near, side: .server, engine: nil, limits: ByteStreamLimits(), delegate: Producer(),
      on: loop)
    stream.start(on: loop)
    stream.output += [UInt8](repeating: 1, count: part + part / 2)
    stream.finish(on: loop)
    #expect(stream.isClosed)
    try far.setReading(true, on: loop)
    _ = await reader.ended.wait(until: .now() + .seconds(20), on: loop)
    #expect(reader.count == part + part / 2)
  }

  @Test("a peer that takes everything does not stall, though something always waits")
  func noStall() async throws {
    let loop = try EventLoopGroup(count: 1).loops[0]
    let (error, sent, received) = try await Self.produce(for: .milliseconds(900), on: loop)
    #expect(error == nil)
    #expect(sent > 16 * Self.part && received == sent)
  }

  /// Sends for `time`, with more waiting at any moment than a turn sends.
  private static func produce(
    for time: Duration, on loop: isolated EventLoop
  ) async throws -> (TransportError?, sent: Int, received: Int) {
    let (near, far) = try sockets()
    let reader = Reader(far, keeps: false)
    var limits = ByteStreamLimits()
    limits.writeStallTimeout = .milliseconds(300)
    let producer = Producer()
    let stream = ByteStream(
      socket: near, side: .server, engine: nil, limits: limits, delegate: producer, on: loop)
    producer.stream = stream
    stream.start(on: loop)
    try far.setReading(true, on: loop)
    producer.end = .now() + time
    producer.send(on: loop)
    guard
      case .value(let error) = await producer.closed.wait(until: .now() + .seconds(20), on: loop)
    else { return (.closed("not yet", peer: nil), 0, 0) }
    _ = await reader.ended.wait(until: .now() + .seconds(20), on: loop)
    return (error, producer.sent, reader.count)
  }

  /// Both ends of a connection for which the kernel keeps more than one part.
  private static func sockets() throws -> (StreamSocket, StreamSocket) {
    var ends: [Int32] = [0, 0]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue)
    #expect(socketpair(AF_UNIX, kind, 0, &ends) == 0)
    for end in ends {
      var size = Int32(4 * part)
      setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, 4)
    }
    let address = SocketAddress.loopback(port: 1)
    return (
      StreamSocket(descriptor: ends[0], remoteAddress: address),
      StreamSocket(descriptor: ends[1], remoteAddress: address)
    )
  }

  /// Has always more to send, until its time is over.
  private final class Producer: ByteStreamDelegate {
    var stream: ByteStream?
    var end = MonotonicTime.now()
    var sent = 0
    let closed = LoopPromise<TransportError?>()

    func send(on loop: isolated EventLoop) {
      guard let stream, stream.isOpen else { return }
      guard MonotonicTime.now() < end else { return stream.close(on: loop) }
      let bytes = [UInt8](repeating: 1, count: 32 * LargeOutputTests.part)
      sent += bytes.count
      stream.output += bytes
      stream.outputAppended(on: loop)
    }

    func streamOpened(on loop: isolated EventLoop) {}
    func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
      bytes.count
    }
    func streamEnded(on loop: isolated EventLoop) {}
    func streamDrained(on loop: isolated EventLoop) { send(on: loop) }
    func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
      closed.fulfil(error, on: loop)
    }
  }

  /// Takes what comes.
  private final class Reader: StreamSocketDelegate {
    private let socket: StreamSocket
    private let keeps: Bool
    private var buffer = [UInt8](repeating: 0, count: 8 * LargeOutputTests.part)
    private(set) var received: [UInt8] = []
    private(set) var count = 0
    let ended = LoopPromise<Void>()

    init(_ socket: StreamSocket, keeps: Bool = true) {
      self.socket = socket
      self.keeps = keeps
      socket.delegate = self
    }

    /// Takes what is there, at most eight parts.
    ///
    /// - Returns: how much that was; `nil` at the end.
    func receive() -> Int? {
      let outcome = try? buffer.withUnsafeMutableBytes { try socket.receive(into: $0) }
      switch outcome {
      case .bytes(let size):
        count += size
        if keeps { received += buffer[..<size] }
        return size
      case .wouldBlock:
        return 0
      case .endOfStream, nil:
        return nil
      }
    }

    func socketReadable(on loop: isolated EventLoop) {
      if receive() == nil {
        socket.close(on: loop)
        ended.fulfil((), on: loop)
      }
    }
    func socketDrained(on loop: isolated EventLoop) {}
    func socketTurnEnded(on loop: isolated EventLoop) {}
    func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {}
  }
}
