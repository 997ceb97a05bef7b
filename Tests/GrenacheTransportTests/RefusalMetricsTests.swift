import CoreMetrics
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import MetricsTestKit
import TestSupport
import Testing

@testable import GrenacheTransport

/// What this process counts, from the first look on.
private let metrics: TestMetrics = {
  let metrics = TestMetrics()
  MetricsSystem.bootstrap(metrics)
  return metrics
}()

/// One after the other, so that each sees only what it has caused.
@Suite(
  "What is refused is counted, once, with its status, close code or reason", .serialized,
  .timeLimit(.minutes(2)))
struct RefusalMetricsTests {
  private func count(_ what: String, _ dimension: String, _ value: String) -> Int64 {
    metrics.counterTotal(
      label: "grenache_\(what)_refusals_total", dimensions: [(dimension, value)])
  }

  @Test(
    "P4 P5 P6 requests by status",
    arguments: [
      (400, "GET / HTTP/1.1\r\n\r\n"),
      (408, "GET / HTTP/1.1\r\n"),
      (413, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"),
      (414, "GET /\(String(repeating: "p", count: 9_000)) HTTP/1.1\r\nHost: x\r\n\r\n"),
      (417, "GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n"),
      (431, "GET / HTTP/1.1\r\nHost: x\r\nX: \(String(repeating: "x", count: 20_000))\r\n\r\n"),
      (426, webSocketUpgrade.replacing("Version: 13", with: "Version: 7")),
      (501, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"),
      (503, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"),
      (505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    ])
  func requests(_ status: Int, _ request: String) async throws {
    let before = count("http", "status", "\(status)")
    try await withServer(
      configure: { configuration in
        if status == 408 { configuration.headTimeout = .milliseconds(300) }
        configuration.handlerTimeout = .milliseconds(50)
      },
      respond: { _ in
        // Until the server gives it up, which cancels it.
        await untilCancelled()
        return HTTPServerResponse(.ok)
      }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(request)
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 \(status) "))
      #expect(count("http", "status", "\(status)") == before + 1)
    }
  }

  @Test(
    "P8 P9 P10 WebSockets by close code",
    arguments: [
      (1002, [0x81, 0x01, 0x61]), (1007, [0x81, 0x81, 0, 0, 0, 0, 0xff]),
      (1008, [0x82, 0xfe, 0x0b, 0xb8, 0, 0, 0, 0]),  // 3,000 bytes that do not come
      (1009, [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
    ] as [(Int, [UInt8])])
  func webSockets(_ code: Int, _ bytes: [UInt8]) async throws {
    let before = count("websocket", "code", "\(code)")
    try await withServer(
      configure: { $0.webSocket.messageGrace = .milliseconds(200) },
      openWebSocket: { _, _ in EchoHandler() }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(Array(webSocketUpgrade.utf8) + bytes)
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(count("websocket", "code", "\(code)") == before + 1)
    }
  }

  @Test(
    "P3 P4 connections by reason",
    arguments: ["too_many", "handshake_wait", "handshake_timeout", "handshake_failed", "silent"])
  func connections(_ reason: String) async throws {
    let before = count("connection", "reason", reason)
    let authority = try TestAuthority()
    let tls = reason == "silent" ? nil : try authority.host()
    try await withServer(
      tls: tls,
      configure: { configuration in
        configuration.headTimeout = .milliseconds(50)
        if reason == "too_many" { configuration.connectionsMax = 1 }
        if reason == "handshake_timeout" {
          configuration.stream.handshakeTimeout = .milliseconds(50)
        }
        configuration.handshakesMax = 1
        configuration.handshakeQueueTimeout = .milliseconds(50)
        configuration.handshakeQuietTimeout = .seconds(60)
      }
    ) { server in
      var first: RawConnection?
      if reason == "too_many" || reason == "handshake_wait" {
        first = try await RawConnection(to: server.localAddress)
        try await eventually { await server.connectionCount != 0 }
      }
      let hello = try clientHello(try authority.client())
      if reason == "handshake_wait", let first {
        await first.send(hello)
        _ = await first.received { bytes, _ in !bytes.isEmpty }
      }
      let refused = try await RawConnection(to: server.localAddress)
      if reason == "handshake_wait" { await refused.send(hello) }
      if reason == "handshake_failed" { await refused.send("GET / HTTP/1.1\r\n\r\n") }
      #expect(await refused.receivedToEnd().isEnded)
      // The socket is closed before it is counted.
      try await eventually("a count") { count("connection", "reason", reason) > before }
      await first?.close()
    }
  }
}
