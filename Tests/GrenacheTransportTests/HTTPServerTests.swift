import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("HTTP server, RFC 9112 §9: connections", .timeLimit(.minutes(2)))
struct HTTPServerConnectionTests {
  private func isDone(_ responses: Int) -> @Sendable ([UInt8], Bool) -> Bool {
    { bytes, _ in String(decoding: bytes, as: UTF8.self).count(of: "HTTP/1.1 ") >= responses }
  }

  @Test("§9.3 a connection is kept for the next request, until one asks to close it")
  func keepAlive() async throws {
    try await withServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      let first = await connection.received(until: isDone(1))
      #expect(first.text.hasPrefix("HTTP/1.1 200 OK\r\n"))
      #expect(!first.isEnded)
      await connection.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      let second = await connection.receivedToEnd()
      #expect(second.isEnded)
      #expect(second.text.count(of: "HTTP/1.1 200 OK") == 2)
    }
  }

  @Test(
    "RFC 6454 a web page's request or upgrade is answered with 403, but for pages that are allowed",
    arguments: [false, true])
  func origins(_ isUpgrade: Bool) async throws {
    let rest =
      isUpgrade
      ? "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" : "Content-Length: 0\r\n"
    let method = isUpgrade ? "GET" : "POST"
    try await withServer(
      configure: { $0.allowedOrigins = ["https://one.test"] },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      for (origins, status) in [
        ([], isUpgrade ? "101" : "200"), (["https://one.test"], isUpgrade ? "101" : "200"),
        (["https://two.test"], "403"), (["null"], "403"), ([""], "403"),
        (["https://one.test:8443"], "403"), (["https://one.test", "https://two.test"], "403"),
      ] {
        let connection = try await RawConnection(to: server.localAddress)
        let lines = origins.map { "Origin: \($0)\r\n" }.joined()
        await connection.send("\(method) / HTTP/1.1\r\nHost: x\r\n\(lines)\(rest)\r\n")
        let answer = await connection.received(until: isDone(1))
        #expect(answer.text.hasPrefix("HTTP/1.1 \(status) "), "\(origins)")
      }
    }
  }

  @Test("a server that cannot listen says so, and where")
  func cannotListen() async throws {
    try await withServer { server in
      let error = await #expect(throws: TransportError.self) {
        try await HTTPServer(
          on: server.localAddress, context: nil, configuration: HTTPServerConfiguration(),
          handlers: HTTPServerHandlers(respond: { _ in HTTPServerResponse(.ok) }),
          group: EventLoopGroup(count: 1), logger: quietLogger)
      }
      #expect(error?.code == .listenFailed && error?.stage == .listen)
    }
  }

  @Test("§9.3 HTTP/1.0 is answered and closed")
  func http10() async throws {
    try await withServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("GET / HTTP/1.0\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.hasPrefix("HTTP/1.1 200 OK\r\n"))
    }
  }

  @Test("§9.3.2 pipelined requests are answered in order, however long each takes")
  func pipelining() async throws {
    try await withServer(respond: { request in
      if request.target.hasSuffix("0") { for _ in 0..<20 { await Task.yield() } }
      return HTTPServerResponse(.ok, body: Array("<\(request.target)>".utf8))
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let requests = (0..<60).map { "GET /\($0) HTTP/1.1\r\nHost: x\r\n\r\n" }.joined()
      await connection.send(requests)
      let all = await connection.received { bytes, _ in
        String(decoding: bytes, as: UTF8.self).count(of: "</59>") == 1
      }
      let order = all.text.split(separator: "</").dropFirst().compactMap { part in
        Int(part.prefix { $0.isNumber })
      }
      #expect(order == Array(0..<60))
    }
  }

  @Test("RFC 9110 §9.3.2 HEAD gets the fields without the body")
  func head() async throws {
    try await withServer(respond: { _ in HTTPServerResponse(.ok, body: [1, 2, 3]) }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.lowercased().contains("content-length: 3\r\n"))
      #expect(answer.text.hasSuffix("\r\n\r\n"))
    }
  }

  @Test("RFC 9110 §10.1.1 100 (Continue) before the body, then the answer")
  func expectContinue() async throws {
    try await withServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
      let interim = await connection.received(until: isDone(1))
      #expect(interim.text == "HTTP/1.1 100 Continue\r\n\r\n")
      await connection.send("ok")
      let answer = await connection.received { bytes, _ in bytes.suffix(2) == Array("ok".utf8) }
      #expect(answer.text.count(of: "HTTP/1.1 200 OK") == 1)
    }
  }

  @Test("a handler's field that would split the response is not sent")
  func splitting() async throws {
    try await withServer(respond: { _ in
      HTTPServerResponse(.ok, fields: [("X", "a\r\nSet-Cookie: b")])
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 500 "))
      #expect(!answer.text.contains("Set-Cookie"))
    }
  }

  @Test("a client that closes its direction still gets the answer")
  func halfClose() async throws {
    try await withServer(tls: nil) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasSuffix("hello"))
    }
  }

  @Test("a client that closes its direction while it is answered gets the whole of a long answer")
  func halfCloseDuringAnswer() async throws {
    let group = try EventLoopGroup(count: 1)
    let size = 20 << 20
    try await withServer(
      group: group, configure: { $0.stream.outputHighWaterBytes = 64 << 20 },
      respond: { _ in HTTPServerResponse(.ok, body: [UInt8](repeating: 1, count: size)) }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress, reads: false)
      await connection.send("GET / HTTP/1.0\r\n\r\n")
      await connection.startReading()
      _ = await connection.received { bytes, _ in !bytes.isEmpty }
      await connection.endSending()
      let answer = await connection.receivedToEnd()
      #expect(answer.body.count == size)
    }
  }
}

@Suite("HTTP server: what strangers may send, P4 to P6 and P12", .timeLimit(.minutes(2)))
struct HTTPServerLimitTests {
  @Test(
    "P5 P6 a request at the limit is answered, one past it is refused and the connection closed",
    arguments: [
      ("head", 431), ("fields", 431), ("line", 414), ("length", 413), ("chunked", 413),
    ])
  func limits(_ what: String, _ status: Int) async throws {
    try await withServer(configure: { configuration in
      configuration.http = HTTPLimits(
        headBytesMax: 2_000, fieldsMax: 10, lineBytesMax: 1_000, bodyBytesMax: 500)
    }) { server in
      for excess in [0, 1] {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(Self.request(what, excess: excess))
        let answer = await connection.receivedToEnd()
        #expect(answer.isEnded)
        let expected = excess == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 \(status) "
        #expect(answer.text.hasPrefix(expected), "\(what) + \(excess): \(answer.text.prefix(40))")
      }
    }
  }

  private static func request(_ what: String, excess: Int) -> String {
    let close = "Connection: close\r\n"
    switch what {
    case "head":
      let start = "GET / HTTP/1.1\r\nHost: x\r\n\(close)"
      let some = String(repeating: "a", count: 900)
      var text = start + "A: \(some)\r\nB: \(some)\r\nC: "
      text += String(repeating: "b", count: 2_000 - text.utf8.count - 4 + excess)
      return text + "\r\n\r\n"
    case "fields":
      let more = (0..<(8 + excess)).map { "F\($0): x\r\n" }.joined()
      return "GET / HTTP/1.1\r\nHost: x\r\n\(close)\(more)\r\n"
    case "line":
      let path = String(repeating: "p", count: 1_000 - "GET / HTTP/1.1\r\n".utf8.count + excess)
      return "GET /\(path) HTTP/1.1\r\nHost: x\r\n\(close)\r\n"
    case "length":
      let body = String(repeating: "b", count: 500 + excess)
      return "POST / HTTP/1.1\r\nHost: x\r\n\(close)Content-Length: \(500 + excess)\r\n\r\n\(body)"
    default:
      let body = String(repeating: "b", count: 250)
      let last = String(repeating: "b", count: 250 + excess)
      return "POST / HTTP/1.1\r\nHost: x\r\n\(close)Transfer-Encoding: chunked\r\n\r\n"
        + "fa\r\n\(body)\r\n\(String(250 + excess, radix: 16))\r\n\(last)\r\n0\r\n\r\n"
    }
  }

  @Test("P5 a connection that sends the longest head and no end of it costs less than 1 MiB")
  func headMemory() async throws {
    try await withServer { server in
      let head = "GET / HTTP/1.1\r\nHost: x\r\n"
      let line = "X: \(String(repeating: "x", count: 4_000))\r\n"
      let most = head + String(repeating: line, count: 4)
      #expect(most.utf8.count > 15 << 10 && most.utf8.count < 16 << 10)
      // The first pays for what all share.
      var held = [try await RawConnection(to: server.localAddress)]
      await held[0].send(most)
      let before = residentBytes()
      for _ in 0..<64 {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(most)
        held.append(connection)
      }
      // An answer to who comes behind them says that what they sent has been taken in.
      let last = try await RawConnection(to: server.localAddress)
      await last.send("GET / HTTP/1.0\r\n\r\n")
      #expect(await last.receivedToEnd().text.hasPrefix("HTTP/1.1 200 "))
      // Both ends of each are in this process.
      #expect((residentBytes() - before) / 64 < 1 << 20)
      for connection in held {
        let open = await connection.receivedToEnd(within: .zero)
        #expect(!open.isEnded)
        await connection.close()
      }
    }
  }

  @Test("P6 a length over the limit is refused before the body is sent")
  func lengthAlone() async throws {
    try await withServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 413 "))
    }
  }

  @Test(
    "P4 a head or body that does not come is answered with 408",
    arguments: [
      "GET / HTTP/1.1\r\nHost: x\r\n", "G",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    ])
  func slow(_ part: String) async throws {
    try await withServer(configure: { configuration in
      configuration.headDeadline = .seconds(1)
      configuration.bodyGrace = .seconds(1)
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(part)
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.hasPrefix("HTTP/1.1 408 "))
    }
  }

  @Test("P4 the deadline of a head is absolute: a byte now and then does not move it")
  func trickle() async throws {
    try await withServer(configure: { $0.headDeadline = .milliseconds(100) }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let start = ContinuousClock.now
      var isEnded = false
      while !isEnded, ContinuousClock.now - start < .seconds(10) {
        await connection.send("G")
        isEnded = await connection.receivedToEnd(within: .milliseconds(10)).isEnded
      }
      #expect(isEnded)
    }
  }

  @Test("a connection on which nothing is asked is closed without a word")
  func idle() async throws {
    try await withServer(configure: { configuration in
      configuration.headDeadline = .milliseconds(50)
      configuration.idleTimeout = .milliseconds(50)
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.isEmpty)
    }
  }

  @Test("a handler that does not answer is answered for with 503")
  func handler() async throws {
    try await withServer(
      configure: { $0.handlerDeadline = .milliseconds(50) },
      respond: { _ in
        await untilCancelled()
        return HTTPServerResponse(.ok)
      }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 503 "))
    }
  }

  @Test("P3 P12 a handshake that does not come is cut off")
  func handshake() async throws {
    let tls = try TestAuthority().host()
    try await withServer(
      tls: tls, configure: { $0.stream.handshakeDeadline = .milliseconds(50) }
    ) { server in
      for start in [[], [0x16, 3, 1], Array("GET / HTTP/1.1\r\n\r\n".utf8)] as [[UInt8]] {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(start)
        #expect(await connection.receivedToEnd().isEnded)
      }
      #expect(await server.connectionCount == 0)
    }
  }

  @Test("connections up to the limit are served, one past it is closed")
  func connections() async throws {
    try await withServer(configure: { $0.connectionsMax = 3 }) { server in
      var held: [RawConnection] = []
      for _ in 0..<3 {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        let answer = await connection.received { bytes, _ in !bytes.isEmpty }
        #expect(answer.text.hasPrefix("HTTP/1.1 200 "))
        held.append(connection)
      }
      let excess = try await RawConnection(to: server.localAddress)
      let refused = await excess.receivedToEnd()
      #expect(refused.isEnded && refused.text.isEmpty)
      await held[0].close()
      try await eventually { await server.connectionCount != 3 }
      let next = try await RawConnection(to: server.localAddress)
      await next.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      #expect(await next.receivedToEnd().text.hasPrefix("HTTP/1.1 200 "))
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
          configuration.stream.handshakeDeadline = .seconds(60)
        } else {
          configuration.handshakeQuietMax = .seconds(60)
          configuration.stream.handshakeDeadline = .seconds(2)
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
        configuration.handshakeWaitMax = .milliseconds(500)
        configuration.handshakeQuietMax = .seconds(60)
        configuration.stream.handshakeDeadline = .seconds(60)
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
        configuration.handshakeWaitMax = .milliseconds(50)
        configuration.handshakeQuietMax = .seconds(60)
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
        configuration.handshakeQuietMax = .seconds(60)
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
      #expect(limits.handshakeDeadline == time)
    }
  }

  @Test("P3 who has begun to speak TLS on a port that knows both waits once, and is closed")
  func sniffedWait() async throws {
    let authority = try TestAuthority()
    try await withServer(
      tls: try authority.host(),
      configure: { configuration in
        configuration.handshakesMax = 1
        configuration.handshakeWaitMax = .milliseconds(50)
        configuration.handshakeQuietMax = .seconds(60)
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

  @Test("what arrives in the same read as a refusal is not answered")
  func refusal() async throws {
    try await withServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 400 "))
      #expect(answer.text.count(of: "HTTP/1.1 ") == 1)
    }
  }
}

@Suite("HTTP server: shutting down", .timeLimit(.minutes(2)))
struct HTTPServerDrainTests {
  @Test("what is being answered finishes, what is idle is closed, nothing new is accepted")
  func drain() async throws {
    let (asked, continuation) = AsyncStream.makeStream(of: Void.self)
    let (gate, opening) = AsyncStream.makeStream(of: Void.self)
    try await withServer(
      respond: { request in
        if request.target == "/slow" {
          continuation.yield()
          for await _ in gate {}
        }
        return HTTPServerResponse(.ok, body: Array("done".utf8))
      }
    ) { server in
      let idle = try await RawConnection(to: server.localAddress)
      await idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      _ = await idle.received { bytes, _ in bytes.suffix(4) == Array("done".utf8) }
      let busy = try await RawConnection(to: server.localAddress)
      await busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
      for await _ in asked { break }
      async let end: Void = server.shutDown(within: .seconds(10))
      #expect(await idle.receivedToEnd().isEnded)
      opening.finish()
      let answer = await busy.receivedToEnd()
      #expect(answer.text.hasSuffix("done"))
      #expect(answer.text.lowercased().contains("connection: close"))
      await end
      #expect(await server.connectionCount == 0)
      await #expect(throws: SystemCallError.self) {
        _ = try await RawConnection(to: server.localAddress)
      }
    }
  }

  @Test(
    "drainIdleTimeout: an idle connection is kept so long for what may be on its way, no longer")
  func idle() async throws {
    let time = Duration.milliseconds(500)
    try await withServer(configure: { $0.drainIdleTimeout = time }) { server in
      let idle = try await RawConnection(to: server.localAddress)
      await idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      _ = await idle.received { bytes, _ in !bytes.isEmpty }
      let start = ContinuousClock.now
      async let end: Void = server.shutDown(within: .seconds(50))
      #expect(await idle.receivedToEnd(within: .seconds(40)).isEnded)
      let took = ContinuousClock.now - start
      #expect(took >= time - .milliseconds(2) && took < .seconds(8))
      await end
    }
  }

  @Test("after the grace, what is left is broken off")
  func grace() async throws {
    let (begun, gate) = (Tally(), Tally())
    try await withServer(respond: { _ in
      await begun.add()
      await gate.reachesThoughCancelled(1)
      return HTTPServerResponse(.ok)
    }) { server in
      let busy = try await RawConnection(to: server.localAddress)
      await busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      await begun.reaches(1)
      await server.shutDown(within: .milliseconds(20))
      let answer = await busy.receivedToEnd()
      #expect(answer.isEnded && answer.text.isEmpty)
      await gate.add()
    }
  }
}

/// The memory of this process that is really there.
private func residentBytes() -> Int {
  let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
  let fields = text.split(separator: " ")
  return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * sysconf(Int32(_SC_PAGESIZE))
}
