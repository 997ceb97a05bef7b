import ConformanceCases
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

private let limits = WebSocketLimits(messageBytesMax: 16 << 20, fragmentsMax: .max)

/// Sends every message back, and tells how the connection has ended.
private final class EchoClient: WebSocketHandler {
  private let ended = LoopPromise<WebSocketClosure>()

  /// Connects and echoes until the end; how that was, if it came.
  static func run(
    to address: SocketAddress, tls: TLSContext?, deflate: WebSocketDeflate? = nil
  ) async throws -> WebSocketClosure? {
    try await run(
      Destination(Endpoint(address), verification: .name("127.0.0.1")), tls,
      WebSocketOptions(deflate: deflate), on: EventLoopGroup.shared().next())
  }

  private static func run(
    _ destination: Destination, _ tls: TLSContext?, _ options: WebSocketOptions,
    on loop: isolated EventLoop
  ) async throws -> WebSocketClosure? {
    let handler = EchoClient()
    let connection = try await WebSocketClient.connect(
      to: destination, context: tls, limits: limits, options: options, handler: handler,
      by: .now() + .seconds(20), on: loop)
    let outcome = await handler.ended.wait(until: .now() + .seconds(60), on: loop)
    return withExtendedLifetime(connection) {
      if case .value(let closure) = outcome { closure } else { nil }
    }
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    connection.send(kind, payload, on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    ended.fulfil(closure, on: loop)
  }
}

/// An endpoint of ours that echoes messages, and the raw connections of its peer.
private struct Bench {
  /// What our endpoint is.
  let role: WebSocketRole
  let isTLS: Bool

  static let all = [WebSocketRole.server, .client].flatMap { role in
    [false, true].map { Bench(role: role, isTLS: $0) }
  }

  /// Runs `body` for each of `inputs`, on a connection of its own that has been upgraded. For a client
  /// of ours, `closures` has how it saw the end.
  func forEach<Input>(
    _ inputs: [Input], deflate: WebSocketDeflate? = nil,
    _ body: (Input, RawStream, WebSocketAgreement) async throws -> Void,
    ended: (Input, WebSocketClosure?) -> Void = { _, _ in }
  ) async throws {
    let authority = try TestAuthority()
    let client = isTLS ? try TLSContext(authority.client()) : nil
    switch role {
    case .server:
      try await withServer(
        tls: isTLS ? try authority.host() : nil,
        configure: { configuration in
          configuration.webSocket = limits
          configuration.webSocketOptions = WebSocketOptions(deflate: deflate)
        }, openWebSocket: { _, _ in EchoHandler() }
      ) { server in
        for input in inputs {
          let raw = try await RawStream(to: server.localAddress, tls: client)
          try await body(input, raw, Self.askToUpgrade(raw, deflate))
        }
      }
    case .client:
      let server = try await RawStreamServer(
        tls: isTLS ? try TLSContext(authority.host()) : nil)
      for input in inputs {
        async let ending = EchoClient.run(to: server.address, tls: client, deflate: deflate)
        let raw = try #require(await server.next())
        try await body(input, raw, Self.answerUpgrade(raw, deflate))
        ended(input, try await ending)
      }
      await server.stop()
    }
  }

  private static let endOfHead = Array("\r\n\r\n".utf8)

  /// The client's side of an opening handshake.
  private static func askToUpgrade(
    _ raw: RawStream, _ deflate: WebSocketDeflate?
  ) async throws -> WebSocketAgreement {
    let handshake = WebSocketClientHandshake(
      nonce: [UInt8](repeating: 7, count: 16), options: WebSocketOptions(deflate: deflate))
    var request: [UInt8] = []
    try request.appendHTTPRequestHead(
      .get, target: "/ws", host: "x", fields: handshake.fields, contentLength: nil)
    await raw.send(request)
    let answer = await raw.received { $0.suffix(4) == endOfHead }
    var parser = HTTPResponseParser(limits: HTTPLimits())
    parser.expectResponse(to: .get, mayUpgrade: true)
    var offset = 0
    _ = try parser.next(answer.bytes.span, from: &offset)
    return try handshake.validate(
      status: parser.head.status, fields: parser.head.ownedFields(in: answer.bytes.span),
      sha1: Digest.sha1)
  }

  /// The server's side of one.
  private static func answerUpgrade(
    _ raw: RawStream, _ deflate: WebSocketDeflate?
  ) async throws -> WebSocketAgreement {
    let request = await raw.received { $0.suffix(4) == endOfHead }
    var parser = HTTPRequestParser(limits: HTTPLimits())
    var offset = 0
    _ = try parser.next(request.bytes.span, from: &offset)
    let outcome = WebSocketServerHandshake.evaluate(
      method: .get, fields: parser.head.ownedFields(in: request.bytes.span),
      options: WebSocketOptions(deflate: deflate), sha1: Digest.sha1)
    guard case .accept(let fields, let agreement) = outcome else {
      Issue.record("no handshake: \(request.text)")
      return WebSocketAgreement()
    }
    var answer: [UInt8] = []
    try answer.appendHTTPSwitchingProtocols(fields: fields)
    await raw.send(answer)
    return agreement
  }

  /// What our endpoint has said behind the head of its handshake, reasons left out.
  func events(_ bytes: [UInt8], inflater: MessageInflater? = nil) -> [WebSocketEvent] {
    guard let head = bytes.firstRange(of: Self.endOfHead) else { return [] }
    return WebSocketEvent.reading(
      Array(bytes[head.upperBound...]), role: role.peer, limits: limits, inflater: inflater
    ).map { event in
      if case .close(let code, _) = event { .close(code, "") } else { event }
    }
  }
}

extension WebSocketRole {
  fileprivate var peer: WebSocketRole { self == .server ? .client : .server }
}

extension Bench: CustomTestStringConvertible {
  var testDescription: String { "\(role), \(isTLS ? "over TLS" : "in the clear")" }
}

@Suite(
  "P16 Conformance on connections, as server and as client, in the clear and over TLS",
  .timeLimit(.minutes(5)))
struct ConformanceConnectionTests {
  @Test(
    "1 to 7, 10: echoes, pongs, close codes, and the end of the stream", arguments: Bench.all)
  fileprivate func cases(_ bench: Bench) async throws {
    try await bench.forEach(ConformanceCase.all) { one, raw, _ in
      await raw.send(one.bytesToTheEnd(to: bench.role))
      if bench.role == .client, !one.isViolation {
        // The server closes TCP (§7.1.1), once the client has answered its close frame.
        _ = await raw.received { bench.events($0).count == one.answer.count }
        await raw.close()
      }
      let answer = await raw.receivedToEnd()
      #expect(answer.isClosed, "\(one)")
      if bench.role == .server || one.isViolation { #expect(answer.isEnded, "\(one)") }
      #expect(bench.events(answer.bytes) == one.answer, "\(one)")
    } ended: { one, closure in
      #expect(closure != nil, "\(one)")
      #expect((closure?.error != nil) == one.isViolation, "\(one): \(String(describing: closure))")
    }
  }

  /// Echoes what `frames` make up, and compares; the pieces of `chop` bytes each go out by themselves.
  private func echo(
    _ bench: Bench, _ frames: [ConformanceCase.Frame], _ kind: WebSocketMessageKind,
    _ payload: [UInt8], chop: Int = .max, _ raw: RawStream
  ) async {
    let input = ConformanceCase("9", frames, []).bytes(to: bench.role)
    for start in stride(from: 0, to: input.count, by: min(chop, input.count)) {
      await raw.send(Array(input[start..<min(start + min(chop, input.count), input.count)]))
    }
    let head = payload.count < 65_536 ? 4 : 10
    let size = head + (bench.role == .client ? 4 : 0) + payload.count
    let before = await raw.received { _ in true }.headBytes
    let whole = await raw.received(within: .seconds(60)) { $0.count >= before + size }
    #expect(bench.events(whole.bytes) == [.message(kind, payload)], "\(payload.count) bytes")
    await raw.close()
  }

  @Test("9.1, 9.2: messages of 64 KiB to 16 MiB", arguments: Bench.all)
  fileprivate func large(_ bench: Bench) async throws {
    // Text in the clear and bytes over TLS: half the time that both would take.
    let sizes = [64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20]
    try await bench.forEach(sizes) { size, raw, _ in
      let payload = [UInt8](repeating: 0x2a, count: size)
      await echo(
        bench, [.init(bench.isTLS ? 0x82 : 0x81, payload)], bench.isTLS ? .binary : .text, payload,
        raw)
    }
  }

  @Test("9.3, 9.4: 1 MiB in fragments of 64 bytes to 256 KiB", arguments: Bench.all)
  fileprivate func fragments(_ bench: Bench) async throws {
    let payload = [UInt8](repeating: 0x2a, count: 1 << 20)
    try await bench.forEach([64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10]) {
      size, raw, _ in
      let isText = size % (64 << 10) != 0
      let frames = ConformanceCase.cut(payload, opcode: isText ? 1 : 2, into: size)
      await echo(bench, frames, isText ? .text : .binary, payload, raw)
    }
  }

  @Test("9.5, 9.6: 128 KiB that come in pieces of 64 to 2,048 bytes", arguments: Bench.all)
  fileprivate func chops(_ bench: Bench) async throws {
    let payload = [UInt8](repeating: 0x2a, count: 128 << 10)
    try await bench.forEach([64, 128, 256, 512, 1_024, 2_048]) { chop, raw, _ in
      let isText = chop <= 256
      await echo(
        bench, [.init(isText ? 0x81 : 0x82, payload)], isText ? .text : .binary, payload,
        chop: chop, raw)
    }
  }

  @Test("9.7, 9.8: 100 messages of each size, one after the other's echo", arguments: Bench.all)
  fileprivate func roundTrips(_ bench: Bench) async throws {
    try await bench.forEach([0, 16, 64, 256, 1_024, 4_096, 16_384]) { size, raw, _ in
      let payload = [UInt8](repeating: 0x2a, count: size)
      let message = ConformanceCase("9.7", [.init(0x82, payload)], []).bytes(to: bench.role)
      let echo = message.count + (bench.role == .server ? -4 : 4)
      let before = await raw.received { _ in true }.headBytes
      var answer = RawStream.Received(bytes: [], isEnded: false, isClosed: false)
      for number in 1...100 {
        await raw.send(message)
        answer = await raw.received { $0.count >= before + number * echo }
      }
      let expected = [WebSocketEvent](repeating: .message(.binary, payload), count: 100)
      #expect(bench.events(answer.bytes) == expected, "\(size) bytes")
      await raw.close()
    }
  }

  @Test(
    "12, 13: compressed messages, with context and without, by windows of every kind",
    arguments: Bench.all)
  fileprivate func compression(_ bench: Bench) async throws {
    for (keepsContext, bits) in [(false, 15), (true, 15), (false, 9), (true, 9)] {
      let deflate = WebSocketDeflate(
        keepsContext: keepsContext, windowBitsMax: bits, messageBytesMin: 0)
      try await bench.forEach([16, 256, 4_096, 65_536], deflate: deflate) { size, raw, agreement in
        let agreed = try #require(agreement.deflate)
        let payload = (0..<size).map { UInt8(truncatingIfNeeded: ($0 / 7) &* ($0 % 5)) }
        let pool = ZlibPool()
        let deflater = MessageDeflater(
          agreed, role: bench.role.peer, options: deflate, pool: pool)
        var bytes: [UInt8] = []
        for _ in 0..<3 {
          deflater.appendMessage(
            .binary, payload.span, maskingKey: bench.role == .server ? 0x0403_0201 : nil,
            to: &bytes)
        }
        await raw.send(bytes)
        // Only reading it tells where it ends, each time with what was agreed upon from the start.
        let expected = [WebSocketEvent](repeating: .message(.binary, payload), count: 3)
        let answer = await raw.received { bytes in
          bench.events(bytes, inflater: bench.inflater(agreed, deflate)).count >= 3
        }
        let events = bench.events(answer.bytes, inflater: bench.inflater(agreed, deflate))
        #expect(events == expected, "\(size) bytes, \(keepsContext), \(bits)")
        await raw.close()
      }
    }
  }
}

extension Bench {
  fileprivate func inflater(
    _ agreed: WebSocketDeflateAgreement, _ options: WebSocketDeflate
  ) -> MessageInflater {
    MessageInflater(agreed, role: role.peer, options: options, pool: ZlibPool())
  }
}

extension RawStream.Received {
  /// The bytes of the head of the handshake.
  fileprivate var headBytes: Int { bytes.count - body.count }
}
