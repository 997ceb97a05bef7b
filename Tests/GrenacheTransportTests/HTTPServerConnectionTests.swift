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
