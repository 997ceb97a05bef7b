import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("HTTP server: who shakes hands, and when, P3, P12 and P37", .timeLimit(.minutes(2)))
struct HTTPServerHandshakeTests {
  @Test("P3 P12 a handshake that does not come is cut off")
  func handshake() async throws {
    let tls = try TestAuthority().host()
    try await withServer(
      tls: tls, configure: { $0.stream.handshakeTimeout = .milliseconds(50) }
    ) { server in
      for start in [[], [0x16, 3, 1], Array("GET / HTTP/1.1\r\n\r\n".utf8)] as [[UInt8]] {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(start)
        #expect(await connection.receivedToEnd().isEnded)
      }
      #expect(await server.connectionCount == 0)
    }
  }

  /// Connections that have begun to shake hands, and go no further.
  private func holders(
    _ count: Int, of server: HTTPServer, _ tls: TLSConfiguration
  ) async throws -> [RawConnection] {
    var holders: [RawConnection] = []
    for _ in 0..<count {
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(try clientHello(tls))
      #expect(await !connection.received { bytes, _ in !bytes.isEmpty }.bytes.isEmpty)
      holders.append(connection)
    }
    return holders
  }

  @Test(
    "P3 handshakes over the limit wait their turn, and those who do not end theirs make room",
    arguments: [true, false])
  func handshakesMax(byQuiet: Bool) async throws {
    let authority = try TestAuthority()
    try await withServer(
      tls: try authority.host(),
      configure: { configuration in
        configuration.handshakesMax = 2
        if byQuiet {
          configuration.stream.handshakeTimeout = .seconds(60)
        } else {
          configuration.handshakeQuietTimeout = .seconds(60)
          configuration.stream.handshakeTimeout = .seconds(2)
        }
      },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      let tls = try authority.client()
      let held = try await holders(2, of: server, tls)
      try await withThrowingTaskGroup(of: Int.self) { group in
        for number in 0..<10 {
          group.addTask {
            let probe = try await WebSocketProbe(to: server.localAddress, tls: tls)
            await probe.send([UInt8(number)])
            return await probe.messages(1).count
          }
        }
        for try await count in group { #expect(count == 1) }
      }
      #expect(await held[0].receivedToEnd().isEnded)
    }
  }

  @Test(
    "P3 P12 whoever connects and says nothing, or not a whole record, takes nobody's turn",
    arguments: [[], [0x16], [0x16, 3, 1, 0x02, 0, 1, 2, 3]] as [[UInt8]])
  func silentConnections(_ start: [UInt8]) async throws {
    let authority = try TestAuthority()
    try await withServer(
      tls: try authority.host(),
      configure: { configuration in
        configuration.handshakesMax = 2
        configuration.handshakeQueueTimeout = .milliseconds(500)
        configuration.handshakeQuietTimeout = .seconds(60)
        configuration.stream.handshakeTimeout = .seconds(60)
      },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      var silent: [RawConnection] = []
      for number in 1...8 {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(start)
        silent.append(connection)
        while await server.connectionCount < number { await Task.yield() }
      }
      let probe = try await WebSocketProbe(to: server.localAddress, tls: try authority.client())
      await probe.send([1])
      #expect(await probe.messages(1) == [[1]])
      #expect(await server.connectionCount == 9)
    }
  }

  @Test("P3 who drips its handshake makes room as well: its waits count together")
  func drippedHandshake() async throws {
    let authority = try TestAuthority()
    try await withServer(
      tls: try authority.host(),
      configure: { configuration in
        configuration.handshakesMax = 1
        configuration.handshakeQueueTimeout = .seconds(60)
        configuration.handshakeQuietTimeout = .milliseconds(500)
        configuration.stream.handshakeTimeout = .seconds(60)
      },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      let dripping = try await RawConnection(to: server.localAddress)
      let hello = try clientHello(try authority.client())
      // A record for each byte of its first word, one after the other.
      let drip = Task {
        for byte in hello.dropFirst(5) where !Task.isCancelled {
          await dripping.send([0x16, 3, 1, 0, 1, byte])
          try? await Task.sleep(for: .milliseconds(20))
        }
      }
      try await eventually { await server.connectionCount == 1 }
      let probe = try await WebSocketProbe(
        to: server.localAddress, tls: try authority.client(), within: .seconds(3))
      await probe.send([1])
      #expect(await probe.messages(1) == [[1]])
      drip.cancel()
      await drip.value
      await dripping.close()
    }
  }

  @Test("P3 connections up to the limit may be silent, one past it costs the oldest its place")
  func silentMax() async throws {
    try await withServer(
      tls: try TestAuthority().host(), configure: { $0.silentConnectionsMax = 2 }
    ) { server in
      var silent: [RawConnection] = []
      for number in 1...2 {
        silent.append(try await RawConnection(to: server.localAddress))
        while await server.connectionCount < number { await Task.yield() }
      }
      let last = try await RawConnection(to: server.localAddress)
      #expect(await silent[0].receivedToEnd().isEnded)
      #expect(await server.connectionCount == 2)
      await last.close()
    }
  }

  @Test("a first record that comes in parts is whole with the last")
  func recordInParts() async throws {
    let authority = try TestAuthority()
    try await withServer(tls: try authority.host()) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let hello = try clientHello(try authority.client())
      for part in [hello[..<1], hello[1..<7], hello[7..<hello.count - 1], hello.suffix(1)] {
        #expect(await connection.received(within: .milliseconds(50)) { _, _ in false }.bytes == [])
        await connection.send(Array(part))
      }
      #expect(await connection.received { bytes, _ in bytes.first == 22 }.bytes.first == 22)
    }
  }

  @Test("P3 who waits too long for a turn to shake hands is closed")
  func handshakeWait() async throws {
    let authority = try TestAuthority()
    try await withServer(
      tls: try authority.host(),
      configure: { configuration in
        configuration.handshakesMax = 1
        configuration.handshakeQueueTimeout = .milliseconds(50)
        configuration.handshakeQuietTimeout = .seconds(60)
      }
    ) { server in
      let tls = try authority.client()
      let held = try await holders(1, of: server, tls)
      for _ in 0..<3 {
        let waiting = try await RawConnection(to: server.localAddress)
        await waiting.send(try clientHello(tls))
        #expect(await waiting.receivedToEnd().isEnded)
      }
      #expect(await server.connectionCount == 1)
      await held[0].close()
    }
  }

  @Test("P37 clients that gave up before their turn cost those behind them no handshake")
  func abandoned() async throws {
    let authority = try TestAuthority()
    let log = LogRecorder()
    try await withServer(
      tls: try authority.host(),
      configure: { configuration in
        configuration.handshakesMax = 1
        configuration.handshakeQuietTimeout = .seconds(60)
      },
      openWebSocket: { _, _ in EchoHandler() }, logger: log.logger
    ) { server in
      let tls = try authority.client()
      let held = try await holders(1, of: server, tls)
      for _ in 0..<5 {
        let waiting = try await RawConnection(to: server.localAddress)
        await waiting.send(try clientHello(tls))
        await waiting.close()
      }
      try await eventually { await server.connectionCount >= 6 }
      await held[0].close()
      let probe = try await WebSocketProbe(to: server.localAddress, tls: tls)
      await probe.send([1])
      #expect(await probe.messages(1) == [[1]])
      // Whose handshake begins and comes to nothing, of those there is a line.
      #expect(log.count(of: "a client gave up before its turn to shake hands") == 5)
      #expect(log.count(of: "connection failed") == 1)
    }
  }

  @Test("P37 a client waits for its handshake as long as it was given to connect")
  func patience() {
    let now = MonotonicTime(nanoseconds: 1)
    for time in [Duration.seconds(1), .seconds(9)] {
      let limits = ByteStreamLimits().connecting(by: now + time, at: now)
      #expect(limits.handshakeTimeout == time)
    }
  }

  @Test("P3 who has begun to speak TLS on a port that knows both waits once, and is closed")
  func sniffedWait() async throws {
    let authority = try TestAuthority()
    try await withServer(
      tls: try authority.host(),
      configure: { configuration in
        configuration.handshakesMax = 1
        configuration.handshakeQueueTimeout = .milliseconds(50)
        configuration.handshakeQuietTimeout = .seconds(60)
        configuration.acceptsInsecurePlaintextBesideTLS = true
      }
    ) { server in
      let tls = try authority.client()
      let held = try await holders(1, of: server, tls)
      for _ in 0..<3 {
        let waiting = try await RawConnection(to: server.localAddress)
        await waiting.send(try clientHello(tls))
        #expect(await waiting.receivedToEnd().isEnded)
        #expect(await server.connectionCount == 1)
      }
      await held[0].close()
    }
  }
}
