import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import TestSupport
import Testing

/// Runs a server while `body` runs.
func withServer<Result>(
  tls: TLSConfiguration? = nil, loops: Int = 1, group: EventLoopGroup? = nil,
  configure: (inout HTTPServerConfiguration) -> Void = { _ in },
  respond: @escaping @Sendable (HTTPServerRequest) async -> HTTPServerResponse = { request in
    HTTPServerResponse(.ok, body: request.body)
  },
  openWebSocket:
    @escaping @Sendable (HTTPServerRequest, isolated EventLoop) -> (any WebSocketHandler)? = {
      _, _ in nil
    },
  logger: Logger = quietLogger, _ body: (HTTPServer) async throws -> Result
) async throws -> Result {
  var configuration = HTTPServerConfiguration()
  configure(&configuration)
  let server = try await HTTPServer(
    on: .loopback(port: 0), context: try tls.map { try TLSContext($0) },
    configuration: configuration,
    handlers: HTTPServerHandlers(respond: respond, openWebSocket: openWebSocket),
    group: group ?? EventLoopGroup(count: loops), logger: logger)
  return try await withShutdown(of: server, behind: body)
}

/// Shuts a server down behind `body`, however that ends.
func withShutdown<Result>(
  of server: HTTPServer, behind body: (HTTPServer) async throws -> Result
) async throws -> Result {
  do {
    let result = try await body(server)
    await server.shutDown(within: .zero)
    return result
  } catch {
    await server.shutDown(within: .zero)
    throw error
  }
}

/// Round trips over another connection: what had come to a server of one loop before has been looked at.
///
/// - Parameter target: what the server answers at once.
func settle(_ server: HTTPServer, by target: String = "/settle") async throws {
  let connection = try await RawConnection(to: server.localAddress)
  for number in 1...50 {
    await connection.send("GET \(target) HTTP/1.1\r\nHost: x\r\n\r\n")
    let answers = await connection.received { bytes, _ in
      String(decoding: bytes, as: UTF8.self).count(of: "HTTP/1.1 200") == number
    }
    try #require(answers.text.count(of: "HTTP/1.1 200") == number)
  }
  await connection.close()
}

/// The first flight of a TLS client.
func clientHello(_ tls: TLSConfiguration) throws -> [UInt8] {
  let window = TLSWindow()
  let engine = try TLSEngine(
    context: TLSContext(tls),
    role: .client(serverName: nil, verification: .anyPeerThatTheRootsVouchFor), window: window)
  _ = try engine.handshake()
  var bytes: [UInt8] = []
  window.withOutput { bytes = Array($0) }
  return bytes
}

/// Sends every message back as it came.
final class EchoHandler: WebSocketHandler {
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    connection.send(kind, payload, on: loop)
  }
}

/// A WebSocket client for tests: remembers what came.
struct WebSocketProbe: Sendable {
  let loop: EventLoop
  private let bound: LoopBound<(Recorder, WebSocketConnection)>

  final class Recorder: WebSocketHandler {
    var messages: [[UInt8]] = []
    var closure: WebSocketClosure?
    var changed = LoopPromise<Void>()

    private func tell(on loop: isolated EventLoop) {
      changed.fulfil((), on: loop)
      changed = LoopPromise()
    }

    func received(
      _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
      on loop: isolated EventLoop
    ) {
      messages.append(payload.withUnsafeBufferPointer(Array.init))
      tell(on: loop)
    }
    func closed(
      _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
    ) {
      self.closure = closure
      tell(on: loop)
    }
  }

  /// Connects; without `tls` in the clear.
  init(
    to address: SocketAddress, tls: TLSConfiguration? = nil,
    verification: PeerVerification = .name("127.0.0.1"), limits: WebSocketLimits = .init(),
    options: WebSocketOptions = .client, within time: Duration = .seconds(10)
  ) async throws {
    loop = try EventLoopGroup.shared().next()
    let context = try tls.map { try TLSContext($0) }
    let destination = Destination(Endpoint(address), verification: verification)
    bound = try await Self.connect(
      destination, context, limits, options, by: .now() + time, on: loop)
  }

  private static func connect(
    _ destination: Destination, _ context: TLSContext?, _ limits: WebSocketLimits,
    _ options: WebSocketOptions, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws -> LoopBound<(Recorder, WebSocketConnection)> {
    let recorder = Recorder()
    let connection = try await WebSocketClient.connect(
      to: destination, context: context, limits: limits, options: options, handler: recorder,
      by: deadline, on: loop)
    return LoopBound((recorder, connection), on: loop)
  }

  func send(_ payload: [UInt8], _ kind: WebSocketMessageKind = .binary) async {
    let bound = bound
    await loop.run { loop in bound.get(on: loop).1.send(kind, payload.span, on: loop) }
  }

  func close(_ code: WebSocketCloseCode, reason: String = "") async {
    let bound = bound
    await loop.run { loop in bound.get(on: loop).1.close(code, reason: reason, on: loop) }
  }

  /// SHA-256 of the certificate that the server has presented.
  var fingerprint: [UInt8]? {
    get async {
      let bound = bound
      return await loop.run { loop in bound.get(on: loop).1.identity?.fingerprintSHA256 }
    }
  }

  var isCompressed: Bool {
    get async {
      let bound = bound
      return await loop.run { loop in bound.get(on: loop).1.isCompressed }
    }
  }

  var subprotocol: String? {
    get async {
      let bound = bound
      return await loop.run { loop in bound.get(on: loop).1.subprotocol }
    }
  }

  var pendingOutputBytes: Int {
    get async {
      let bound = bound
      return await loop.run { loop in bound.get(on: loop).1.pendingOutputBytes }
    }
  }

  /// What has come once there are `count` messages, or the connection has closed.
  func messages(_ count: Int, within time: Duration = .seconds(20)) async -> [[UInt8]] {
    await Self.wait(bound, .now() + time, on: loop) { $0.messages.count >= count }.0
  }

  /// How the connection ended; `nil` when it has not by then.
  func closure(within time: Duration = .seconds(20)) async -> WebSocketClosure? {
    await Self.wait(bound, .now() + time, on: loop) { _ in false }.1
  }

  private static func wait(
    _ bound: LoopBound<(Recorder, WebSocketConnection)>, _ deadline: MonotonicTime,
    on loop: isolated EventLoop, until isDone: (Recorder) -> Bool
  ) async -> ([[UInt8]], WebSocketClosure?) {
    let recorder = bound.get(on: loop).0
    while !isDone(recorder), recorder.closure == nil, MonotonicTime.now() < deadline {
      if recorder.changed.isOver { recorder.changed = LoopPromise() }
      _ = await recorder.changed.wait(until: deadline, on: loop)
    }
    return (recorder.messages, recorder.closure)
  }
}
