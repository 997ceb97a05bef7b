import Glibc
import Testing

@testable import GrenacheIO

/// The accepting end, which says something and breaks off.
private final class Breaker: ListenSocketDelegate {
  let listener: ListenSocket
  let accepted = LoopPromise<Void>()
  private var socket: StreamSocket?

  init(on loop: isolated EventLoop) throws {
    listener = try ListenSocket(.loopback(port: 0))
    try listener.start(self, on: loop)
  }

  func accepted(_ descriptor: Int32, from remote: SocketAddress, on loop: isolated EventLoop) {
    let socket = StreamSocket(descriptor: descriptor, remoteAddress: remote)
    Array("all of it".utf8).withUnsafeBytes { try? socket.send($0, on: loop) }
    self.socket = socket
    accepted.fulfil((), on: loop)
  }

  func breakOff(on loop: isolated EventLoop) {
    listener.stop(on: loop)
    socket?.reset(on: loop)
  }
}

/// The connecting end, which does not read at first.
private final class Reader: StreamSocketDelegate {
  let socket: StreamSocket
  private(set) var failures = 0
  private(set) var received: [UInt8] = []
  private(set) var end: SystemCallError?
  let failed = LoopPromise<Void>()
  let ended = LoopPromise<Void>()

  init(_ socket: StreamSocket) {
    self.socket = socket
    socket.delegate = self
  }

  func socketReadable(on loop: isolated EventLoop) {
    var buffer = [UInt8](repeating: 0, count: 4)
    do {
      let outcome = try buffer.withUnsafeMutableBytes { try socket.receive(into: $0) }
      if case .bytes(let count) = outcome { return received += buffer[..<count] }
    } catch {
      end = error as? SystemCallError
    }
    socket.close(on: loop)
    ended.fulfil((), on: loop)
  }

  func socketFailed(_ error: SystemCallError, on loop: isolated EventLoop) {
    failures += 1
    socket.postpone(error, on: loop)
    failed.fulfil((), on: loop)
  }

  func socketDrained(on loop: isolated EventLoop) {}
  func socketTurnEnded(on loop: isolated EventLoop) {}
}

@Suite("A socket that fails while nobody reads from it", .timeLimit(.minutes(1)))
struct PostponedFailureTests {
  @Test("it is told once, and again behind what had come, when somebody reads on")
  func postponed() async throws {
    let loop = try EventLoopGroup(count: 1).next()
    let bound = try await Self.connected(on: loop)
    // Turns of the loop in which it would be told again.
    for _ in 0..<50 { await loop.run { _ in } }
    await loop.run { loop in
      let reader = bound.get(on: loop)
      #expect(reader.failures == 1)
      // Not to read is no reason to watch it again.
      #expect(throws: Never.self) { try reader.socket.setReading(false, on: loop) }
    }
    for _ in 0..<50 { await loop.run { _ in } }
    let reader = try await Self.readOn(bound, on: loop)
    #expect(reader.failures == 1)
    #expect(reader.received == "all of it")
    #expect(reader.end == ECONNRESET)
  }

  private static func connected(on loop: isolated EventLoop) async throws -> LoopBound<Reader> {
    let breaker = try Breaker(on: loop)
    let address = try #require(breaker.listener.localAddress)
    let deadline = MonotonicTime.now() + .seconds(20)
    let reader = Reader(try await StreamSocket.connect(to: address, by: deadline, on: loop))
    try reader.socket.setReading(false, on: loop)
    _ = await breaker.accepted.wait(until: deadline, on: loop)
    breaker.breakOff(on: loop)
    guard case .value = await reader.failed.wait(until: deadline, on: loop) else {
      throw CancellationError()
    }
    return LoopBound(reader, on: loop)
  }

  private static func readOn(
    _ bound: LoopBound<Reader>, on loop: isolated EventLoop
  ) async throws -> (failures: Int, received: String, end: Int32?) {
    let reader = bound.get(on: loop)
    try reader.socket.setReading(true, on: loop)
    _ = await reader.ended.wait(until: .now() + .seconds(20), on: loop)
    return (reader.failures, String(decoding: reader.received, as: UTF8.self), reader.end?.errno)
  }
}
