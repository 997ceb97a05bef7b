import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

/// An echo server of ours while `body` runs.
private func withEcho(
  _ arguments: [String], _ body: (_ address: String) async throws -> Void
) async throws {
  let echo = try RunningCommand(Programs.grenache, ["echo", "--port", "0"] + arguments)
  let line = await echo.firstLine()
  try await body(port(of: line))
  #expect(await echo.terminate() == 0, "\(echo.errors)")
}

@Suite("P15 Ambiguous HTTP is refused", .enabled(if: Programs.hasPython), .timeLimit(.minutes(5)))
struct SmugglingTests {
  @Test("nothing of the corpus that nginx or haproxy refuses is accepted")
  func corpus() async throws {
    try await withEcho(["--insecure-plaintext"]) { port in
      let result = try await run(
        Programs.python, "\(Programs.interop)/smuggling.py", "127.0.0.1", port)
      #expect(result.status == 0, "\(result.output)\n\(result.errors)")
      let count = result.output.split(separator: " ").first.flatMap { Int($0) } ?? 0
      #expect(count >= 150, "\(result.output)")
    }
  }
}

@Suite(
  "Parsers that share nothing with ours", .enabled(if: Programs.hasPython), .timeLimit(.minutes(5)))
struct FramerPeerTests {
  @Test("h11 and wsproto read what we emit")
  func peers() async throws {
    try await withEcho(["--insecure-plaintext"]) { port in
      let result = try await run(
        Programs.python, "\(Programs.interop)/framing_peers.py", "127.0.0.1", port)
      #expect(result.status == 0, "\(result.errors)")
      #expect(
        result.output == """
          h11: 8 bodies on one connection, HEAD, close, refusal
          wsproto: 5 messages, no extension, closed
          wsproto: 5 messages, ['permessage-deflate'], closed
          """)
    }
  }

  @Test("websockets talks to our server, compressed in every way and not, whole and in fragments")
  func websocketsClient() async throws {
    try await withEcho(["--tls-dir", GeneratedCertificates.directory("worker")]) { port in
      let result = try await run(
        Programs.python, "\(Programs.interop)/ws_compression.py", "127.0.0.1", port,
        GeneratedCertificates.directory("client"))
      #expect(result.status == 0, "\(result.errors)")
      let compressed = "28 messages, ['permessage-deflate'], closed 1000"
      #expect(
        result.output == """
          plain: 30 messages, no extension, closed 1000
          default: \(compressed)
          own context: \(compressed)
          small windows: \(compressed)
          no context: \(compressed)
          bomb: closed 1009
          """)
    }
  }

  @Test(
    "we talk to a server of websockets, compressed and not",
    arguments: [nil, false, true], [0, 5_000])
  func websocketsServer(_ keepsContext: Bool?, _ fragmentBytes: Int) async throws {
    let server = try RunningCommand(
      Programs.python,
      ["\(Programs.interop)/ws_echo_server.py"]
        + (fragmentBytes > 0 ? ["\(fragmentBytes)"] : []))
    let port = try #require(UInt16(await server.firstLine()))
    let options = WebSocketOptions(
      deflate: keepsContext.map { WebSocketDeflate(keepsContext: $0, messageBytesMin: 1) })
    let sizes = [0, 1, 125, 126, 4_000, 60_000, 200_000, 60_000, 4_000]
    let payloads = sizes.map { size in
      (0..<size).map { UInt8(truncatingIfNeeded: ($0 / 9) &* ($0 % 7)) }
    }
    let loop = try EventLoopGroup.shared().next()
    let received = try await exchange(payloads, with: port, options, on: loop)
    #expect(received == payloads)
    server.closeInput()
    #expect(await server.end().status == 0)
  }

  /// Sends every payload and collects what comes back.
  private func exchange(
    _ payloads: [[UInt8]], with port: UInt16, _ options: WebSocketOptions,
    on loop: isolated EventLoop
  ) async throws -> [[UInt8]] {
    let collector = Collector()
    let deadline = MonotonicTime.now() + .seconds(30)
    let connection = try await WebSocketClient.connect(
      to: Destination(
        Endpoint(host: "127.0.0.1", port: port), verification: .name("127.0.0.1")), context: nil,
      limits: .init(),
      options: options, handler: collector, by: deadline, on: loop)
    #expect(connection.isCompressed == (options.deflate != nil))
    for payload in payloads { connection.send(.binary, payload.span, on: loop) }
    while collector.messages.count < payloads.count, MonotonicTime.now() < deadline {
      _ = await collector.changed.wait(until: deadline, on: loop)
    }
    connection.close(.normal, on: loop)
    return collector.messages
  }

  private final class Collector: WebSocketHandler {
    var messages: [[UInt8]] = []
    var changed = LoopPromise<Void>()

    func received(
      _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
      on loop: isolated EventLoop
    ) {
      messages.append(payload.copy())
      changed.fulfil((), on: loop)
      changed = LoopPromise()
    }
  }
}

@Suite("curl talks to our HTTP server", .timeLimit(.minutes(5)))
struct CurlFramingTests {
  private let url = "http://127.0.0.1"

  @Test("two requests go over one connection; the third, after a close, over another")
  func keepAlive() async throws {
    try await withEcho(["--insecure-plaintext"]) { port in
      let result = try await run(
        Programs.curl, "-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\\n",
        "\(url):\(port)/1", "--next", "-sS", "-o", "/dev/null", "-w",
        "%{http_code} %{num_connects}\\n", "-H", "Connection: close", "\(url):\(port)/2", "--next",
        "-sS", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\\n", "\(url):\(port)/3")
      #expect(result.output == "200 1\n200 0\n200 1", "\(result.errors)")
    }
  }

  @Test("a chunked body comes back; HEAD has none; HTTP/1.0 is answered and closed")
  func bodies() async throws {
    try await withEcho(["--insecure-plaintext"]) { port in
      let text = String(repeating: "0123456789", count: 20_000)
      let file = FileManager.default.temporaryDirectory.appending(path: "curl-\(port).txt").path
      try text.write(toFile: file, atomically: true, encoding: .utf8)
      defer { try? FileManager.default.removeItem(atPath: file) }
      let chunked = try await run(
        Programs.curl, "-sS", "-H", "Transfer-Encoding: chunked", "--data-binary", "@\(file)",
        "\(url):\(port)/")
      #expect(chunked.output == text, "\(chunked.errors)")
      let old = try await run(
        Programs.curl, "-sS", "-0", "--data-binary", "@\(file)", "-w", "%{http_code}",
        "\(url):\(port)/")
      #expect(old.output == text + "200")
      let head = try await run(Programs.curl, "-sS", "-I", "\(url):\(port)/")
      #expect(head.output.hasPrefix("HTTP/1.1 200 OK"))
    }
  }

  @Test("100-continue: curl waits for it and gets it; 413 comes in its place for what is too long")
  func expectContinue() async throws {
    try await withEcho(["--insecure-plaintext", "--message-bytes", "100000"]) { port in
      for (count, status) in [(90_000, "200"), (100_001, "413")] {
        let result = try await run(
          Programs.curl, "-sSv", "-o", "/dev/null", "-w", "%{http_code}", "--expect100-timeout",
          "30", "-H", "Expect: 100-continue", "--data-binary",
          String(repeating: "x", count: count), "\(url):\(port)/")
        #expect(result.output == status, "\(result.errors)")
        #expect(result.errors.contains("HTTP/1.1 100 Continue") == (status == "200"))
      }
    }
  }
}
