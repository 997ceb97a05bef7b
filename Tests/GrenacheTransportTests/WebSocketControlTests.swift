import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import Testing

@testable import GrenacheTransport

/// Sends as many bytes as asked for in its one message.
private final class BurstHandler: WebSocketHandler {
  static let bytes = 256 << 10

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    connection.send(.binary, [UInt8](repeating: 7, count: Self.bytes).span, on: loop)
  }
}

/// Answers a message with so many that its output is not empty before the last has been sent.
private final class StreamHandler: WebSocketHandler {
  static let messages = 128
  private var left = 0

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    left = Self.messages
    send(connection, on: loop)
  }

  func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    send(connection, on: loop)
  }

  private func send(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    while left > 0, !connection.isOutputFull {
      left -= 1
      connection.send(
        .binary, [UInt8](repeating: 7, count: BurstHandler.bytes).span, on: loop)
    }
  }
}

@Suite("P10 Control frames on a connection (RFC 6455 §5.5)", .timeLimit(.minutes(2)))
struct WebSocketControlTests {
  @Test("§5.5.3 one pong waits behind output that is not read: the one for the latest ping")
  func onePendingPong() async throws {
    try await withServer(openWebSocket: { _, _ in BurstHandler() }) { server in
      let connection = try await RawConnection(to: server.localAddress, reads: false)
      var bytes = Array(webSocketUpgrade.utf8) + clientFrame(2, [1])
      for number in 0..<50 {
        bytes += clientFrame(9, [UInt8](repeating: UInt8(number), count: 125))
      }
      await connection.send(bytes)
      await connection.startReading()
      let pong: [UInt8] = [0x8a, 125] + [UInt8](repeating: 49, count: 125)
      let size = 10 + BurstHandler.bytes
      let answer = await connection.received(within: .seconds(30)) { bytes, _ in
        bytes.suffix(127) == pong
      }
      #expect(answer.body.count == size + 127)
      // It answered those before, and the next one is answered as usual.
      await connection.send(clientFrame(9, [1]) + clientFrame(9, [2]))
      let more = await connection.received { bytes, _ in bytes.suffix(3) == [0x8a, 1, 2] }
      #expect(more.body.dropFirst(size + 127) == [0x8a, 1, 1, 0x8a, 1, 2])
    }
  }

  @Test("§5.5.2 a ping is answered while there is always more to send")
  func pongWithinStream() async throws {
    try await withServer(
      // More than the kernel takes of it at both ends.
      configure: {
        $0.stream.outputHighWaterBytes = 16 << 20
        $0.stream.outputLowWaterBytes = 8 << 20
      }, openWebSocket: { _, _ in StreamHandler() }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress, reads: false)
      await connection.send(
        Array(webSocketUpgrade.utf8) + clientFrame(2, [1]) + clientFrame(9, [0x70]))
      await connection.startReading()
      let pong: [UInt8] = [0x8a, 1, 0x70]
      let size = StreamHandler.messages * (10 + BurstHandler.bytes) + pong.count
      let answer = await connection.received(within: .seconds(30)) { bytes, _ in
        bytes.count > size
      }
      #expect(answer.body.count == size)
      let place = answer.body.firstRange(of: pong)?.lowerBound
      #expect(place.map { $0 < answer.body.startIndex + size / 4 * 3 } == true)
    }
  }

  @Test(
    "100 control frames are let pass, the next closes with 1008", arguments: [9, 10] as [UInt8])
  func flood(_ opcode: UInt8) async throws {
    try await withServer(
      // However long the machine takes for them.
      configure: { $0.webSocket.controlWindow = .seconds(600) },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let most = [[UInt8]](repeating: clientFrame(opcode, []), count: 100).flatMap(\.self)
      await connection.send(Array(webSocketUpgrade.utf8) + most + clientFrame(2, [0x2a]))
      let echo: [UInt8] = [0x82, 1, 0x2a]
      let passed = await connection.received { bytes, _ in bytes.suffix(3) == echo }
      #expect(passed.body.count == (opcode == 9 ? 200 : 0) + 3)
      #expect(!passed.isEnded)
      await connection.send(clientFrame(opcode, []))
      let end = await connection.receivedToEnd()
      #expect(end.isEnded)
      let rest = Array(end.body.dropFirst(passed.body.count))
      #expect(rest.count > 4 && rest[0] == 0x88 && rest[2...3] == [0x03, 0xf0])
    }
  }
}
