internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import Logging

/// The part of an HTTP server that lives on one loop: its connections and their handlers.
final class HTTPServerShard: WebSocketOwner {
  enum Upgrade {
    case refuse(HTTPServerResponse)
    case accept(fields: HTTPFields, WebSocketAgreement, any WebSocketHandler)
  }

  let configuration: HTTPServerConfiguration
  /// What the parser lets through; bodies that are not streamed have a lower limit of their own.
  let parserLimits: HTTPLimits
  private(set) var isDraining = false

  private let context: TLSContext?
  private let handlers: HTTPServerHandlers
  private let connectionsMax: Int
  private let logger: Logger
  private var connections: [ObjectIdentifier: HTTPServerConnection] = [:]
  private var webSockets: [ObjectIdentifier: WebSocketConnection] = [:]
  private lazy var entrance = HTTPServerEntrance(
    self, connectionsMax: connectionsMax, logger: logger)
  private var dateCache = HTTPDateCache()
  private var drained: LoopPromise<Void>?

  init(
    configuration: HTTPServerConfiguration, context: TLSContext?, handlers: HTTPServerHandlers,
    connectionsMax: Int, logger: Logger
  ) {
    self.configuration = configuration
    var parserLimits = configuration.http
    if handlers.stream != nil {
      parserLimits.bodyBytesMax = max(
        parserLimits.bodyBytesMax, configuration.streamedBodyBytesMax)
    }
    self.parserLimits = parserLimits
    self.context = context
    self.handlers = handlers
    self.connectionsMax = connectionsMax
    self.logger = logger
  }

  var connectionCount: Int {
    connections.count + webSockets.count + entrance.connectionCount
  }

  // MARK: Connections

  func accept(_ descriptor: Int32, _ remote: SocketAddress, on loop: isolated EventLoop) {
    let socket = StreamSocket(descriptor: descriptor, remoteAddress: remote)
    guard !isDraining, connectionCount < connectionsMax else {
      if !isDraining { Refusals.count(.tooMany) }
      // Closed unanswered: a stranger's connection over the limit costs no handshake.
      logger.debug("connection refused: limit reached", metadata: ["peer": "\(remote)"])
      return socket.close(on: loop)
    }
    guard context != nil else { return startPlain(socket, on: loop) }
    entrance.admit(socket, on: loop)
  }

  /// Serves a connection in the clear.
  func startPlain(_ socket: StreamSocket, on loop: isolated EventLoop) {
    let connection = HTTPServerConnection(shard: self, handshake: nil)
    let stream = ByteStream(
      socket: socket, side: .server, engine: nil, limits: configuration.stream,
      delegate: connection, on: loop)
    connection.attach(stream)
    connections[ObjectIdentifier(connection)] = connection
    stream.start(on: loop)
  }

  /// Begins the handshake of a connection whose first record is there; `nil` when none can be begun.
  ///
  /// - Parameter number: what `handshakeEnded` is told, once, when it is over.
  func startTLS(
    _ socket: StreamSocket, _ number: HandshakeQueue.Number, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) -> HTTPServerConnection? {
    guard let context else { return nil }
    do {
      let window = LoopBuffers.of(loop).window
      let engine = try TLSEngine(context: context, role: .server, window: window)
      let connection = HTTPServerConnection(shard: self, handshake: number)
      let stream = ByteStream(
        socket: socket, side: .server, engine: engine, limits: configuration.stream,
        delegate: connection, on: loop)
      connection.attach(stream)
      connections[ObjectIdentifier(connection)] = connection
      stream.start(handshakeBy: deadline, hasInput: true, on: loop)
      return connection
    } catch {
      logger.warning(
        "connection refused",
        metadata: ["peer": "\(socket.remoteAddress)", "error": "\(error)"])
      socket.close(on: loop)
      return nil
    }
  }

  func handshakeEnded(_ number: HandshakeQueue.Number, on loop: isolated EventLoop) {
    entrance.handshakeEnded(number, on: loop)
  }

  /// A connection is gone: it may be the last that a shutdown waits for.
  func connectionGone(on loop: isolated EventLoop) {
    if isDraining, connectionCount == 0 { drained?.fulfil((), on: loop) }
  }

  func remove(_ connection: HTTPServerConnection, on loop: isolated EventLoop) {
    connections[ObjectIdentifier(connection)] = nil
    connectionGone(on: loop)
  }

  // MARK: Requests

  /// The handler that takes `request` as a stream, if one does.
  func streamHandler(for request: HTTPServerRequest) -> HTTPStreamHandler? {
    handlers.stream?(request)
  }

  /// Whether the client closes to say that it does not wait any more.
  func isCancelledByClosing(_ request: HTTPServerRequest) -> Bool {
    handlers.cancellationField.map { request.fields[$0] != nil } ?? false
  }

  func handle(
    _ request: HTTPServerRequest, for connection: HTTPServerConnection,
    on loop: isolated EventLoop
  ) {
    let workers = WorkerPool<PendingRequest>.of(loop)
    workers.submit(
      PendingRequest(request: request, connection: connection, respond: handlers.respond))
    workers.pump(on: loop)
  }

  /// Decides on a request to upgrade (RFC 6455 §4.2).
  func upgrade(
    _ request: HTTPServerRequest, on loop: isolated EventLoop
  ) -> Upgrade {
    let outcome = WebSocketServerHandshake.evaluate(
      method: request.method, fields: request.fields, options: configuration.webSocketOptions,
      sha1: Digest.sha1)
    switch outcome {
    case .reject(let status, let fields):
      return .refuse(HTTPServerResponse(status, fields: fields))
    case .accept(let fields, let agreement):
      if handlers.admitsToWebSocket?(request) == false {
        return .refuse(HTTPServerResponse(.forbidden))
      }
      guard !isDraining, let handler = handlers.openWebSocket(request, loop) else {
        return .refuse(HTTPServerResponse(isDraining ? .serviceUnavailable : .notFound))
      }
      return .accept(fields: fields, agreement, handler)
    }
  }

  func upgraded(_ connection: HTTPServerConnection, to webSocket: WebSocketConnection) {
    connections[ObjectIdentifier(connection)] = nil
    webSockets[ObjectIdentifier(webSocket)] = webSocket
  }

  func webSocketClosed(_ webSocket: WebSocketConnection, on loop: isolated EventLoop) {
    webSockets[ObjectIdentifier(webSocket)] = nil
    connectionGone(on: loop)
  }

  // MARK: What is told

  func connectionFailed(_ error: TransportError) {
    if error.stage == .handshake {
      Refusals.count(error.code == .timedOut ? .handshakeTimeout : .handshakeFailed)
    }
    // Strangers can cause these at will: not at a level that floods the log.
    logger.debug("connection failed", metadata: ["error": "\(error)"])
  }

  func requestRefused(_ error: HTTPError, from peer: SocketAddress?) {
    logger.debug(
      "request refused",
      metadata: ["error": "\(error)", "peer": "\(peer.map(String.init(describing:)) ?? "-")"])
  }

  func handlerFailed(_ error: HTTPError) {
    logger.error("a handler's response cannot be sent", metadata: ["error": "\(error)"])
  }

  /// The `Date` field's value, formatted once a second.
  func date(on loop: isolated EventLoop) -> [UInt8] {
    dateCache.value(at: loop.core.now)
  }

  // MARK: The end

  func drain(within grace: Duration, on loop: isolated EventLoop) async {
    isDraining = true
    entrance.close(on: loop)
    for connection in connections.values { connection.drain(on: loop) }
    for webSocket in webSockets.values { webSocket.drain(on: loop) }
    guard connectionCount > 0 else { return }
    let drained = LoopPromise<Void>()
    self.drained = drained
    _ = await drained.wait(until: loop.core.now + grace, on: loop)
    for connection in connections.values { connection.abort(on: loop) }
    let end = TransportError.closed("the server shuts down", peer: nil)
    for webSocket in webSockets.values { webSocket.giveUp(end, on: loop) }
  }
}

/// A request that waits for its handler.
private struct PendingRequest: LoopWork {
  let request: HTTPServerRequest
  let connection: HTTPServerConnection
  let respond: @Sendable (HTTPServerRequest) async -> HTTPServerResponse

  func run(on loop: isolated EventLoop) async {
    connection.handlerBegins()
    let response = await respond(request)
    connection.handlerEnded()
    connection.respond(response, on: loop)
  }
}
