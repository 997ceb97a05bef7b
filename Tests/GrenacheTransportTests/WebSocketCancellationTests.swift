import Glibc
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import Synchronization
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("WebSocket client: cancelled while it connects", .timeLimit(.minutes(1)))
struct WebSocketCancellationTests {
  /// Says that it has been called.
  private final class Witness: WebSocketHandler {
    private let isCalled: Flag
    init(_ isCalled: Flag) { self.isCalled = isCalled }
    func received(
      _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
      on loop: isolated EventLoop
    ) { isCalled.set() }
    func closed(
      _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
    ) { isCalled.set() }
  }

  @Test("the handler of a connection that has not come about is never called")
  func cancelled() async throws {
    let server = try await RawStreamServer()
    let loop = try EventLoopGroup(count: 1).loops[0]
    for _ in 0..<10 {
      let isCalled = Flag()
      let connecting = Task {
        try await Self.connect(to: server.address, Witness(isCalled), on: loop)
      }
      let peer = try #require(await server.next())
      let request = await peer.received { String(decoding: $0, as: UTF8.self).contains("\r\n\r\n") }
      let answer = try #require(Self.answer(to: request.text))
      // While the loop is held up, the cancellation comes, and behind it another hold-up, in which the
      // answer comes: it is there before whoever connects can run.
      let (first, second) = (Hold(), Hold())
      let firstHold = Task { await loop.run { _ in first.hold() } }
      try await first.begun()
      connecting.cancel()
      for _ in 0..<1_000 { await Task.yield() }
      let secondHold = Task { await loop.run { _ in second.hold() } }
      for _ in 0..<1_000 { await Task.yield() }
      first.release()
      try await second.begun()
      await peer.send(answer)
      for _ in 0..<1_000 { await Task.yield() }
      second.release()
      await firstHold.value
      await secondHold.value
      let isConnected = await connecting.result.isSuccess
      await peer.close()
      _ = await peer.receivedToEnd()
      #expect(isConnected || !isCalled.isSet)
    }
    await server.stop()
  }

  private static func connect(
    to address: SocketAddress, _ handler: Witness, on loop: isolated EventLoop
  ) async throws {
    _ = try await WebSocketClient.connect(
      to: Destination(Endpoint(address), verification: .name("127.0.0.1")), context: nil,
      limits: WebSocketLimits(), handler: handler, by: .now() + .seconds(10), on: loop)
  }

  /// The answer to an opening handshake, and a message behind it.
  private static func answer(to request: String) -> [UInt8]? {
    let line = request.split(separator: "\r\n").first { $0.hasPrefix("Sec-WebSocket-Key: ") }
    guard let key = line?.split(separator: " ").last else { return nil }
    let outcome = WebSocketServerHandshake.evaluate(
      method: .get,
      fields: [
        ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", String(key)),
      ], options: .server, sha1: Digest.sha1)
    guard case .accept(let fields, _) = outcome else { return nil }
    var bytes: [UInt8] = []
    try? bytes.appendHTTPSwitchingProtocols(fields: fields)
    return bytes + [0x81, 1, 0x61]
  }

  /// Holds a loop up.
  private final class Hold: Sendable {
    private let isBegun = Flag()
    private let isReleased = Flag()

    func hold() {
      isBegun.set()
      let end = ContinuousClock.now + .seconds(30)
      while !isReleased.isSet, .now < end { usleep(500) }
    }

    func begun() async throws { try await eventually { isBegun.isSet } }

    func release() { isReleased.set() }
  }
}

extension Result {
  fileprivate var isSuccess: Bool {
    if case .success = self { true } else { false }
  }
}
