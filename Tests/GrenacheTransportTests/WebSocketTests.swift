import Glibc
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import Synchronization
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("WebSocket connections over TLS (RFC 6455)", .timeLimit(.minutes(2)))
struct WebSocketTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func withEcho<Result>(
    limits: WebSocketLimits = .init(), loops: Int = 1,
    _ body: (HTTPServer, TLSConfiguration) async throws -> Result
  ) async throws -> Result {
    let client = try authority.client()
    return try await withServer(
      tls: try authority.host(), loops: loops, configure: { $0.webSocket = limits },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in try await body(server, client) }
  }

  @Test("§5.2 messages of every size class come back as they were, and in order")
  func sizes() async throws {
    let limits = WebSocketLimits(messageBytesMax: 32 << 20)
    let sizes = [0, 1, 125, 126, 16_383, 65_535, 65_536, 1 << 20, 3, 32 << 20, 5]
    try await withEcho(limits: limits) { server, tls in
      let probe = try await WebSocketProbe(to: server.localAddress, tls: tls, limits: limits)
      var sent: [[UInt8]] = []
      for (index, size) in sizes.enumerated() {
        sent.append([UInt8](repeating: UInt8(index + 1), count: size))
        await probe.send(sent[index])
      }
      let received = await probe.messages(sizes.count, within: .seconds(60))
      #expect(received.map(\.count) == sizes)
      #expect(received == sent)
    }
  }

  @Test("§7.1.2 the client closes with a code, and both sides end in order")
  func close() async throws {
    try await withEcho { server, tls in
      let probe = try await WebSocketProbe(to: server.localAddress, tls: tls)
      await probe.send([1])
      _ = await probe.messages(1)
      await probe.close(.normal, reason: "done")
      #expect(await probe.closure() == WebSocketClosure(code: .normal, error: nil))
      try await eventually { await server.connectionCount <= 0 }
    }
  }

  @Test("§7.4.1 a server that shuts down says 1001 to all")
  func goingAway() async throws {
    try await withEcho(loops: 2) { server, tls in
      var probes: [WebSocketProbe] = []
      for _ in 0..<5 { probes.append(try await WebSocketProbe(to: server.localAddress, tls: tls)) }
      await server.shutDown(within: .seconds(10))
      for probe in probes {
        #expect(await probe.closure() == WebSocketClosure(code: .goingAway, error: nil))
      }
      try await eventually { await server.connectionCount <= 0 }
    }
  }

  @Test("P9 a message over the limit is refused with 1009, one at the limit is not")
  func tooBig() async throws {
    try await withEcho(limits: WebSocketLimits(messageBytesMax: 1_000)) { server, tls in
      let probe = try await WebSocketProbe(to: server.localAddress, tls: tls)
      await probe.send([UInt8](repeating: 1, count: 1_000))
      #expect(await probe.messages(1).first?.count == 1_000)
      await probe.send([UInt8](repeating: 1, count: 1_001))
      #expect(await probe.closure()?.code == .messageTooBig)
    }
  }

  @Test("§4.4 what asks for WebSocket in the wrong way is answered by HTTP")
  func wrongUpgrade() async throws {
    try await withServer(openWebSocket: { request, _ in
      request.target == "/ws" ? EchoHandler() : nil
    }) { server in
      for (from, to, status) in [
        ("/ws", "/other", "404"), ("Version: 13", "Version: 7", "426"),
        ("Key: dGhlIHNhbXBsZSBub25jZQ==", "Key: short", "400"),
      ] {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(webSocketUpgrade.replacing(from, with: to))
        let answer = await connection.receivedToEnd()
        #expect(answer.text.hasPrefix("HTTP/1.1 \(status) "), "\(to)")
      }
    }
  }

  @Test("§1.3 the sample handshake, with the first messages in the same bytes")
  func sample() async throws {
    try await withServer(openWebSocket: { _, _ in EchoHandler() }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let first = clientFrame(1, Array("one".utf8))
      let second =
        clientFrame(1, Array("t".utf8), isFinal: false) + clientFrame(9, [7])
        + clientFrame(0, [0x77, 0x6f])
      await connection.send(Array(webSocketUpgrade.utf8) + first + second)
      let expected: [UInt8] = [0x81, 3, 0x6f, 0x6e, 0x65, 0x8a, 1, 7, 0x81, 3, 0x74, 0x77, 0x6f]
      let answer = await connection.received { bytes, _ in bytes.suffix(13) == expected }
      #expect(answer.text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
      #expect(!answer.isEnded)
      await connection.send(clientFrame(8, [3, 0xe8]))
      let end = await connection.receivedToEnd()
      #expect(end.isEnded)
      #expect(Array(end.bytes.suffix(4)) == [0x88, 2, 3, 0xe8])
    }
  }

  @Test("§5.4 32 MiB in fragments of 1 KiB, P8 and not one more than allowed")
  func fragments() async throws {
    let limits = WebSocketLimits(messageBytesMax: 32 << 20, fragmentsMax: 32 << 10)
    let piece = [UInt8](repeating: 0x61, count: 1_024)
    for excess in [0, 1] {
      try await withServer(
        configure: { $0.webSocket = limits }, openWebSocket: { _, _ in CountingHandler() }
      ) { server in
        let connection = try await RawConnection(to: server.localAddress)
        let middle = clientFrame(0, piece, isFinal: false)
        var bytes = Array(webSocketUpgrade.utf8) + clientFrame(2, piece, isFinal: false)
        for _ in 0..<((32 << 10) - 2) { bytes += middle }
        bytes +=
          excess == 0
          ? clientFrame(0, piece) : clientFrame(0, [], isFinal: false) + clientFrame(0, [])
        await connection.send(bytes)
        let text = "\((32 << 20)) bytes"
        let answer = await connection.received(within: .seconds(60)) { bytes, isEnded in
          isEnded || bytes.suffix(text.utf8.count) == Array(text.utf8)
        }
        #expect(answer.text.contains("bytes") == (excess == 0))
        #expect(answer.isEnded == (excess == 1))
      }
    }
  }

  @Test(
    "§5.1 §5.5 §7.1.7 a violation is answered with its code, and the connection ends",
    arguments: [
      ([0x81, 0x01, 0x61], 1002),  // not masked
      ([0xc1, 0x80, 0, 0, 0, 0], 1002),  // a reserved bit
      ([0x83, 0x80, 0, 0, 0, 0], 1002),  // a reserved opcode
      ([0x80, 0x80, 0, 0, 0, 0], 1002),  // nothing to continue
      ([0x09, 0x80, 0, 0, 0, 0], 1002),  // a fragmented ping
      ([0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),  // not UTF-8
      ([0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 1009),  // 2⁶³−1
    ] as [([UInt8], Int)])
  func violations(_ bytes: [UInt8], _ code: Int) async throws {
    try await withServer(openWebSocket: { _, _ in EchoHandler() }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(Array(webSocketUpgrade.utf8) + bytes)
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(Array(answer.body.prefix(1)) == [0x88])
      #expect(Array(answer.body.dropFirst(2).prefix(2)) == [UInt8(code >> 8), UInt8(code & 0xff)])
    }
  }

  @Test("P8 a message that does not come on is refused with 1008; one that takes its time is not")
  func slowMessage() async throws {
    try await withServer(
      configure: { configuration in
        configuration.webSocket.messageGrace = .milliseconds(400)
        configuration.webSocket.messageBytesPerSecondMin = 1 << 10
      },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      let whole = clientFrame(2, [UInt8](repeating: 7, count: 3_000))
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(Array(webSocketUpgrade.utf8) + whole.prefix(2_000))
      _ = await connection.receivedToEnd(within: .milliseconds(1_200))
      await connection.send(Array(whole.dropFirst(2_000)))
      let echoed = await connection.received { bytes, _ in bytes.count > 3_000 }
      #expect(!echoed.isEnded)
      await connection.send([0x82, 0xfe, 0x0b])
      await connection.send([0xb8, 0, 0, 0, 0])  // 3,000 bytes of which none follows
      let end = await connection.receivedToEnd()
      #expect(end.isEnded)
      #expect(end.bytes.firstRange(of: [0x03, 0xf0]) != nil)
    }
  }

  @Test("P11 a peer that sends and does not read is not read from either, and loses nothing")
  func backPressure() async throws {
    let size = 256 << 10
    let count = 200
    let highest = Mutex(0)
    let message = clientFrame(2, [UInt8](repeating: 1, count: size))
    var bytes = Array(webSocketUpgrade.utf8)
    for _ in 0..<count { bytes += message }
    try await withServer(openWebSocket: { _, _ in
      PendingEchoHandler { bytes in highest.withLock { $0 = max($0, bytes) } }
    }) { server in
      let connection = try await RawConnection(to: server.localAddress, reads: false)
      await connection.send(bytes)
      // With nothing read, the bytes back up at the client's own end, and stay there.
      try await settle(server)
      #expect(await connection.backlogBytes > 10 << 20)
      await connection.startReading()
      let expected = count * (size + 10)
      let answer = await connection.received(within: .seconds(60)) { bytes, isEnded in
        RawConnection.Received(bytes: bytes, isEnded: isEnded).body.count >= expected
      }
      #expect(answer.body.count == expected)
    }
    // One message beyond the high-water mark at the most.
    #expect(highest.withLock { $0 } <= (1 << 20) + size + 10)
  }

  @Test("what has been sent is let go of, even when something always waits")
  func letGo() async throws {
    let most = Mutex(0)
    try await withServer(
      configure: { configuration in
        // More than the kernel takes at once, so that something waits until the end.
        configuration.stream.outputHighWaterBytes = 16 << 20
        configuration.stream.outputLowWaterBytes = 15 << 20
      },
      openWebSocket: { _, _ in
        FloodHandler(total: 128 << 20, size: 64 << 10) { held in
          most.withLock { $0 = max($0, held) }
        }
      }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress, readSize: 4_096)
      await connection.send(Array(webSocketUpgrade.utf8) + clientFrame(1, [0x61]))
      let answer = await connection.received(within: .seconds(60)) { bytes, _ in
        bytes.count >= 128 << 20
      }
      #expect(answer.bytes.count >= 128 << 20)
    }
    #expect(most.withLock { $0 } <= 40 << 20)
  }

  @Test("P3 a stranger who resets during the handshake harms no other connection of the loop")
  func resetDuringHandshake() async throws {
    let group = try EventLoopGroup(count: 1)
    let tls = try authority.client()
    try await withServer(
      tls: try authority.host(), group: group, openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      let probe = try await WebSocketProbe(to: server.localAddress, tls: tls)
      let hello = try clientHello(tls)
      for number in 1...10 {
        let stranger = try await RawConnection(to: server.localAddress)
        try await eventually { await server.connectionCount >= 2 }
        // While the loop is held up, both come: it then finds them in one turn, the stranger first.
        let isHeld = Flag()
        let hold = Task {
          await group.loops[0].run { _ in
            isHeld.set()
            usleep(30_000)
          }
        }
        try await eventually { isHeld.isSet }
        await stranger.send(hello)
        await stranger.reset()
        await probe.send([UInt8(number)])
        #expect(await probe.messages(number).last == [UInt8(number)])
        await hold.value
        try await eventually { await server.connectionCount <= 1 }
      }
    }
  }
}

/// Sends messages, always some ahead of the peer, and tells how many bytes the stream holds.
private final class FloodHandler: WebSocketHandler {
  private var left: Int
  private let message: [UInt8]
  private let tell: (Int) -> Void

  init(total: Int, size: Int, _ tell: @escaping (Int) -> Void) {
    left = total
    message = [UInt8](repeating: 1, count: size)
    self.tell = tell
  }

  private func fill(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    while left > 0, !connection.isOutputFull {
      let bytes = message
      connection.send(.binary, bytes.span, on: loop)
      left -= message.count
      tell(connection.heldOutputBytes)
    }
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    fill(connection, on: loop)
  }

  func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    fill(connection, on: loop)
  }
}

/// Sends back how many bytes each message has.
private final class CountingHandler: WebSocketHandler {
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    connection.send(.text, Array("\(payload.count) bytes".utf8).span, on: loop)
  }
}

/// Sends every message back and tells how much output waits then.
private final class PendingEchoHandler: WebSocketHandler {
  private let tell: (Int) -> Void

  init(_ tell: @escaping (Int) -> Void) { self.tell = tell }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    connection.send(kind, payload, on: loop)
    tell(connection.pendingOutputBytes)
  }
}
