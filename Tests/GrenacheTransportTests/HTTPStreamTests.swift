import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import Synchronization
import TestSupport
import Testing

@testable import GrenacheTransport

/// Runs a server whose requests are all streamed to `handler` while `body` runs.
private func withStreamServer<Result>(
  tls: TLSConfiguration? = nil, configure: (inout HTTPServerConfiguration) -> Void = { _ in },
  handler: @escaping HTTPStreamHandler, _ body: (HTTPServer) async throws -> Result
) async throws -> Result {
  var configuration = HTTPServerConfiguration()
  configure(&configuration)
  let server = try await HTTPServer(
    on: .loopback(port: 0), context: try tls.map { try TLSContext($0) },
    configuration: configuration,
    handlers: HTTPServerHandlers(
      respond: { request in HTTPServerResponse(.ok, body: request.body) },
      stream: { request in request.target == "/buffered" ? nil : handler }),
    group: EventLoopGroup(count: 1), logger: quietLogger)
  return try await withShutdown(of: server, behind: body)
}

/// Sends back what comes, as it comes.
private let echo: HTTPStreamHandler = { _, body, writer in
  do {
    for try await part in body { try await writer.write(part) }
  } catch {
    await writer.abort()
  }
}

private let chunkedHead = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

@Suite("HTTP server: streamed requests, RFC 9112 §7.1", .timeLimit(.minutes(1)))
struct HTTPServerStreamTests {
  @Test("the answer comes in parts while the request does, and the connection is kept")
  func duplex() async throws {
    try await withStreamServer(handler: echo) { server in
      let connection = try await RawConnection(to: server.localAddress)
      for round in 1...2 {
        await connection.send(chunkedHead + "3\r\none\r\n")
        let first = await connection.received { bytes, _ in
          String(decoding: bytes, as: UTF8.self).count(of: "3\r\none\r\n") == round
        }
        #expect(first.text.hasPrefix("HTTP/1.1 200 OK\r\n"))
        #expect(first.text.contains("Transfer-Encoding: chunked\r\n"))
        await connection.send("2\r\nto\r\n0\r\n\r\n")
        let all = await connection.received { bytes, _ in
          String(decoding: bytes, as: UTF8.self).count(of: "2\r\nto\r\n0\r\n\r\n") == round
        }
        #expect(!all.isEnded)
      }
    }
  }

  @Test("every split of a request gives the same answer", arguments: [1, 2, 3, 7])
  func splits(_ size: Int) async throws {
    try await withStreamServer(handler: { _, body, writer in
      var all: [UInt8] = []
      do { for try await part in body { all += part } } catch {}
      await writer.respond(HTTPServerResponse(.ok, body: all))
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let text = Array((chunkedHead + "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\n\r\n").utf8)
      for start in stride(from: 0, to: text.count, by: size) {
        await connection.send(Array(text[start..<min(start + size, text.count)]))
      }
      let answer = await connection.received { bytes, _ in bytes.suffix(6) == Array("hello!".utf8) }
      #expect(answer.text.contains("Content-Length: 6\r\n"))
    }
  }

  @Test("streamBufferBytesMax: with as many bytes as that waiting there is room for no more")
  func buffer() async throws {
    try await Self.buffer(on: EventLoopGroup.shared().next())
  }

  private final class Source: HTTPBodySource {
    var calls = 0
    func bodyHasRoom(on loop: isolated EventLoop) { calls += 1 }
  }

  private static func buffer(on loop: isolated EventLoop) async throws {
    let source = Source()
    let pipe = HTTPBodyPipe(bytesMax: 100)
    pipe.source = source
    pipe.receive([UInt8](repeating: 1, count: 99).span, on: loop)
    #expect(!pipe.isFull)
    #expect(try await pipe.next(on: loop)?.count == 99)
    #expect(source.calls == 0)
    pipe.receive([UInt8](repeating: 1, count: 99).span, on: loop)
    pipe.receive([1].span, on: loop)
    #expect(pipe.isFull)
    // What one read brings beyond is kept all the same.
    pipe.receive([1].span, on: loop)
    #expect(try await pipe.next(on: loop)?.count == 101)
    #expect(!pipe.isFull)
    #expect(source.calls == 1)
  }

  @Test("a handler that does not read stops the client by TCP's flow control")
  func requestBackPressure() async throws {
    let (gate, opening) = AsyncStream.makeStream(of: Void.self)
    let tally = Tally()
    try await withStreamServer(handler: { _, body, _ in
      for await _ in gate {}
      do { for try await part in body { await tally.add(part.count) } } catch {}
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let chunk = [UInt8](repeating: 0x78, count: 64 << 10)
      await connection.send(chunkedHead)
      for _ in 0..<320 {
        await connection.send(Array("10000\r\n".utf8) + chunk + [0x0d, 0x0a])
      }
      // More than kernel buffers hold waits on this side, so the server holds what it may.
      #expect(await connection.backlogBytes > 4 << 20)
      #expect(await tally.value == 0)
      opening.finish()
      await tally.reaches(320 << 16)
      #expect(await tally.value == 320 << 16)
    }
  }

  @Test(
    "a client that does not read stops the handler, which holds no more than the output's limit")
  func responseBackPressure() async throws {
    let tally = Tally()
    let part = [UInt8](repeating: 1, count: 64 << 10)
    let parts = 384
    try await withStreamServer(handler: { _, _, writer in
      for _ in 0..<parts {
        do { try await writer.write(part) } catch { return }
        await tally.add(part.count)
      }
    }) { server in
      let connection = try await RawConnection(to: server.localAddress, reads: false)
      await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      await tally.reaches(1 << 20)
      try await settle(server, by: "/buffered")
      #expect(await tally.value < 16 << 20)
      await connection.startReading()
      await tally.reaches(parts * part.count)
    }
  }

  @Test(
    "P6 a streamed body at the limit is taken, one past it is refused",
    arguments: [true, false], [0, 1])
  func limit(_ isChunked: Bool, _ excess: Int) async throws {
    try await withStreamServer(
      configure: { $0.streamedBodyBytesMax = 200_000 },
      handler: { _, body, writer in
        var count = 0
        do {
          for try await part in body { count += part.count }
          await writer.respond(HTTPServerResponse(.ok, body: Array("\(count)".utf8)))
        } catch {}
      }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let body = String(repeating: "x", count: 200_000 + excess)
      if isChunked {
        let size = String(body.utf8.count, radix: 16)
        await connection.send(chunkedHead + "\(size)\r\n" + body + "\r\n0\r\n\r\n")
      } else {
        await connection.send(
          "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n" + body)
      }
      let answer = await connection.received { bytes, _ in !bytes.isEmpty }
      let expected = excess == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 413 "
      #expect(answer.text.hasPrefix(expected), "\(answer.text)")
    }
  }

  @Test("P6 what is not streamed keeps its own limit", arguments: [true, false], [0, 1])
  func bufferedLimit(_ isChunked: Bool, _ excess: Int) async throws {
    try await withStreamServer(configure: { $0.http.bodyBytesMax = 500 }, handler: echo) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let body = String(repeating: "x", count: 500 + excess)
      let head = "POST /buffered HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
      if isChunked {
        let size = String(body.utf8.count, radix: 16)
        await connection.send(
          head + "Transfer-Encoding: chunked\r\n\r\n\(size)\r\n" + body + "\r\n0\r\n\r\n")
      } else {
        await connection.send(head + "Content-Length: \(body.utf8.count)\r\n\r\n" + body)
      }
      let answer = await connection.receivedToEnd()
      let expected = excess == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 413 "
      #expect(answer.text.hasPrefix(expected), "\(answer.text)")
    }
  }

  @Test("P6 a body that does not bring bytes is cut off with 408")
  func slow() async throws {
    try await withStreamServer(
      configure: { $0.bodyGrace = .milliseconds(500) },
      handler: { _, body, _ in
        for await _ in body.failing() {}
      }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(chunkedHead + "5\r\nhel")
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.hasPrefix("HTTP/1.1 408 "))
    }
  }

  @Test("a stream on which nothing moves ends")
  func idle() async throws {
    let ended = Tally()
    try await withStreamServer(
      configure: { $0.streamIdleTimeout = .milliseconds(500) },
      handler: { _, body, writer in
        try? await writer.start(.ok)
        do { for try await _ in body {} } catch { await ended.add(1) }
      }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(chunkedHead)
      #expect(await connection.receivedToEnd().isEnded)
      await ended.reaches(1)
    }
  }

  @Test(
    "a client that closes in the middle of a body, or vanishes: the handler is told and cancelled",
    arguments: [true, false])
  func truncated(_ inOrder: Bool) async throws {
    let failures = Tally()
    let cancelled = Tally()
    let received = Tally()
    try await withStreamServer(handler: { _, body, _ in
      do { for try await part in body { await received.add(part.count) } } catch {
        await failures.add(1)
      }
      await cancelled.add(Task.isCancelled ? 1 : 0)
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(chunkedHead + "5\r\nhel")
      // A reset takes away what has not been read yet.
      await received.reaches(3)
      if inOrder { await connection.endSending() } else { await connection.reset() }
      await cancelled.reaches(1)
      #expect(await failures.value == 1)
    }
  }

  @Test("HTTP/1.0 gets the parts without chunks, up to the end of the stream")
  func http10() async throws {
    try await withStreamServer(handler: echo) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.hasSuffix("\r\n\r\nhello"))
      #expect(!answer.text.contains("chunked"))
    }
  }

  @Test("an answer before the request has ended closes the connection behind it")
  func early() async throws {
    try await withStreamServer(handler: { _, _, writer in
      await writer.respond(HTTPServerResponse(.badRequest))
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(chunkedHead + "5\r\nhello\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.hasPrefix("HTTP/1.1 400 "))
      #expect(answer.text.contains("Connection: close\r\n"))
    }
  }
}

extension HTTPBody {
  /// The same, ending where it fails.
  fileprivate func failing() -> AsyncStream<[UInt8]> {
    AsyncStream { continuation in
      let body = self
      Task {
        do { for try await part in body { continuation.yield(part) } } catch {}
        continuation.finish()
      }
    }
  }
}

@Suite("HTTP client and server: streams over mutual TLS", .timeLimit(.minutes(1)))
struct HTTPStreamTests {
  private static func open(
    _ client: LoopBound<HTTPClient>, _ request: HTTPClientRequest, _ destination: Destination,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientStream {
    try await client.get(on: loop).openStream(
      request, to: destination, by: .now() + .seconds(20), on: loop)
  }

  private func stream(
    to server: HTTPServer, tls: TLSConfiguration?,
    configure: (inout HTTPClientConfiguration) -> Void = { _ in }
  ) async throws -> HTTPClientStream {
    var configuration = HTTPClientConfiguration()
    configure(&configuration)
    let settings = configuration
    let context = try tls.map { try TLSContext($0) }
    let client = try await EventLoopGroup.shared().next().run { loop in
      LoopBound(HTTPClient(context: context, configuration: settings), on: loop)
    }
    let destination = Destination(
      Endpoint(server.localAddress), verification: .name("127.0.0.1"))
    return try await Self.open(
      client, HTTPClientRequest(.post, "/"), destination, on: client.loop)
  }

  @Test("5 MiB there and back at the same time, in bounded buffers")
  func echoes() async throws {
    let authority = try TestAuthority()
    try await withStreamServer(tls: try authority.host(), handler: echo) { server in
      let stream = try await stream(to: server, tls: try authority.client())
      let parts = 50
      let sending = Task {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<parts {
          let byte = UInt8(truncatingIfNeeded: generator.next())
          try await stream.writer.write([UInt8](repeating: byte, count: 100_003))
        }
        await stream.writer.finish()
      }
      let head = try await stream.response(by: .now() + .seconds(20))
      #expect(head.status == .ok)
      #expect(head.identity != nil)
      var generator = SeededGenerator(seed: 7)
      var (count, left, byte) = (0, 0, UInt8(0))
      var isRight = true
      for try await part in stream.body {
        for value in part {
          if left == 0 {
            byte = UInt8(truncatingIfNeeded: generator.next())
            left = 100_003
          }
          left -= 1
          isRight = isRight && value == byte
        }
        count += part.count
      }
      #expect(isRight)
      #expect(count == parts * 100_003)
      try await sending.value
      await stream.close()
    }
  }

  @Test("P23 an answer that is broken off is never taken for a whole one")
  func brokenOff() async throws {
    let authority = try TestAuthority()
    try await withStreamServer(
      tls: try authority.host(),
      handler: { _, _, writer in
        try? await writer.write([1, 2, 3])
        await writer.abort()
      }
    ) { server in
      let stream = try await stream(to: server, tls: try authority.client())
      await #expect(throws: TransportError.self) {
        _ = try await stream.response(by: .now() + .seconds(20))
        for try await _ in stream.body {}
      }
    }
  }

  @Test("closing the stream cancels the handler; cancelling the task ends its waits")
  func cancellation() async throws {
    let authority = try TestAuthority()
    let started = Tally()
    let cancelled = Tally()
    try await withStreamServer(
      tls: try authority.host(),
      handler: { _, body, _ in
        await started.add(1)
        do { for try await _ in body {} } catch {}
        await cancelled.add(Task.isCancelled ? 1 : 0)
      }
    ) { server in
      let stream = try await stream(to: server, tls: try authority.client())
      await started.reaches(1)
      let reading = Task { () -> TransportError.Code? in
        do {
          for try await _ in stream.body {}
          return nil
        } catch {
          return (error as? TransportError)?.code
        }
      }
      reading.cancel()
      #expect(await reading.value == .cancelled)
      await stream.close()
      await cancelled.reaches(1)
    }
  }

  @Test("streams up to the limit are opened, one past it is refused", arguments: [0, 1])
  func streamsMax(_ excess: Int) async throws {
    try await withStreamServer(handler: echo) { server in
      if excess == 0 {
        let stream = try await stream(to: server, tls: nil) { $0.streamsMax = 1 }
        await stream.close()
      } else {
        let error = await #expect(throws: TransportError.self) {
          try await stream(to: server, tls: nil) { $0.streamsMax = 0 }
        }
        #expect(error?.code == .limitReached)
      }
    }
  }
}
