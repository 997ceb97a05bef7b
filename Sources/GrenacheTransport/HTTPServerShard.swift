internal import DequeModule
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import Logging

/// The part of an HTTP server that lives on one loop: its connections and their handlers.
final class HTTPServerShard: WebSocketOwner, LoopTimerTarget {
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
  /// Connections of which nothing has come yet that says whether they are TLS.
  private var sniffers: [ObjectIdentifier: HTTPServerSniffer] = [:]
  /// Accepted connections that wait for a handshake of another to end, until a deadline.
  private var waiting: Deque<(socket: StreamSocket, deadline: MonotonicTime)> = []
  private lazy var waitingTimer = TargetTimer(self)
  /// Connections whose TLS handshake is under way.
  private var handshakes = 0
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
    connections.count + webSockets.count + waiting.count + sniffers.count
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
    if context != nil, configuration.acceptsInsecurePlaintextBesideTLS {
      let sniffer = HTTPServerSniffer(socket, shard: self)
      sniffers[ObjectIdentifier(sniffer)] = sniffer
      return sniffer.start(on: loop)
    }
    admit(socket, isTLS: context != nil, on: loop)
  }

  /// It is known what a connection speaks, or it is closed.
  func sniffed(_ sniffer: HTTPServerSniffer, on loop: isolated EventLoop) {
    sniffers[ObjectIdentifier(sniffer)] = nil
    if isDraining, connectionCount == 0 { drained?.fulfil((), on: loop) }
  }

  func admit(_ socket: StreamSocket, isTLS: Bool, on loop: isolated EventLoop) {
    guard isTLS, let context else { return start(socket, nil, on: loop) }
    guard waiting.isEmpty, mayStartHandshake else {
      waiting.append((socket, loop.core.now + configuration.handshakeWaitMax))
      if !waitingTimer.isArmed {
        loop.core.arm(waitingTimer, after: configuration.handshakeWaitMax)
      }
      return
    }
    start(socket, context, on: loop)
  }

  /// The handshake of a connection is over, well or not: the next one may begin.
  func handshakeEnded(on loop: isolated EventLoop) {
    handshakes -= 1
    while mayStartHandshake, let next = waiting.popFirst() {
      // One whose first byte was looked at may have failed while it waited.
      if next.socket.isClosed { continue }
      // A client that has given up is still there with its first flight: to answer that, while others
      // wait, would keep them waiting until they give up as well.
      guard !next.socket.hasPeerEnded else {
        logger.debug(
          "a client gave up before its turn to shake hands",
          metadata: ["peer": "\(next.socket.remoteAddress)"])
        next.socket.close(on: loop)
        continue
      }
      start(next.socket, context, on: loop)
    }
  }

  /// Closes those that have waited too long; the others have not come yet.
  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    while let first = waiting.first, first.deadline <= .now() {
      waiting.removeFirst()
      Refusals.count(.handshakeWait)
      first.socket.close(on: loop)
    }
    if let first = waiting.first { loop.core.arm(waitingTimer, at: first.deadline) }
  }

  private var mayStartHandshake: Bool {
    context == nil || handshakes < configuration.handshakesMax
  }

  private func start(
    _ socket: StreamSocket, _ context: TLSContext?, on loop: isolated EventLoop
  ) {
    let connection = HTTPServerConnection(shard: self, isTLS: context != nil)
    do {
      let window = LoopBuffers.of(loop).window
      let engine = try context.map { context throws(TLSError) in
        try TLSEngine(context: context, role: .server, window: window)
      }
      let stream = ByteStream(
        socket: socket, side: .server, engine: engine, limits: configuration.stream,
        delegate: connection, on: loop)
      connection.attach(stream)
      connections[ObjectIdentifier(connection)] = connection
      if context != nil { handshakes += 1 }
      stream.start(on: loop)
    } catch {
      logger.warning(
        "connection refused",
        metadata: ["peer": "\(socket.remoteAddress)", "error": "\(error)"])
      socket.close(on: loop)
    }
  }

  func remove(_ connection: HTTPServerConnection, on loop: isolated EventLoop) {
    connections[ObjectIdentifier(connection)] = nil
    if isDraining, connectionCount == 0 { drained?.fulfil((), on: loop) }
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
    if isDraining, connectionCount == 0 { drained?.fulfil((), on: loop) }
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
    loop.core.cancel(waitingTimer)
    for one in waiting { one.socket.close(on: loop) }
    waiting = []
    for sniffer in sniffers.values { sniffer.close(on: loop) }
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
