internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS

/// One connection of an HTTP server (RFC 9112 §9), confined to its loop.
///
/// Requests are answered one after the other. While one is with its handler, nothing more is read:
/// a client that pipelines meets TCP's flow control, not a queue.
///
///     idle → head → body → responding → idle … → closed
///               ↘ streaming (request and answer at the same time) → idle … → closed
///               ↘ upgraded (the connection belongs to WebSocket from then on)
@safe
final class HTTPServerConnection: ByteStreamDelegate, LoopTimerTarget {
  enum State {
    /// Nothing of the next request has come yet.
    case idle
    /// A part of a head has come.
    case head
    case body(IncomingBody)
    /// The request is with its handler.
    case responding(keepsAlive: Bool, isHead: Bool)
    /// The request and its answer are on their way, both in parts.
    case streaming(HTTPServerExchange)
    case upgraded
    case closed
  }

  struct IncomingBody {
    var request: HTTPServerRequest
    var keepsAlive: Bool
    var startedAt: MonotonicTime
  }

  unowned let shard: HTTPServerShard
  var stream: ByteStream?
  var parser: HTTPRequestParser
  var state = State.idle
  /// The task of the handler, while it runs.
  private var handler: UnsafeCurrentTask?
  /// Whether the client closes to cancel the request that is being answered.
  private var isCancelledByClosing = false
  /// Whether the time for the first request runs since the connection has opened.
  private var isFirstRequest = true
  /// Whether the client has closed its direction behind a streamed request that is whole.
  var hasClientEnded = false
  /// The number of the handshake while it is under way.
  private var handshake: HandshakeQueue.Number?
  lazy var timer = TargetTimer(self)

  init(shard: HTTPServerShard, handshake: HandshakeQueue.Number?) {
    self.shard = shard
    self.handshake = handshake
    parser = HTTPRequestParser(limits: shard.parserLimits)
  }

  var configuration: HTTPServerConfiguration { shard.configuration }

  /// Takes over a stream that is about to start.
  func attach(_ stream: ByteStream) {
    self.stream = stream
  }

  var isShakingHands: Bool { handshake != nil }

  /// Since when the handshake has waited for the client.
  var handshakeQuietSince: MonotonicTime? { stream?.handshakeQuietSince }

  /// Ends a handshake that the client lets wait, for one that does not.
  func makeRoom(on loop: isolated EventLoop) {
    stream?.fail(
      .timedOut(
        .handshake, after: configuration.handshakeQuietTimeout, peer: stream?.remoteAddress),
      on: loop)
  }

  /// Whether closing this connection now loses nothing.
  var isIdle: Bool {
    if case .idle = state { true } else { false }
  }

  /// Closes the connection after the answer of the request that is under way, or of one that may be
  /// on its way while the connection is idle.
  func drain(on loop: isolated EventLoop) {
    switch state {
    case .idle: loop.core.arm(timer, after: configuration.drainIdleTimeout)
    case .head, .body, .responding, .streaming, .upgraded, .closed: break
    }
  }

  func abort(on loop: isolated EventLoop) {
    // What the kernel has of a last answer still reaches a slow reader.
    if case .closed = state, stream?.pendingOutputBytes == 0 {
      stream?.finish(on: loop)
      return
    }
    stream?.fail(.closed("the server shuts down", peer: stream?.remoteAddress), on: loop)
  }

  // MARK: From the stream

  func streamOpened(on loop: isolated EventLoop) {
    loop.core.arm(
      timer,
      after: shard.isDraining ? configuration.drainIdleTimeout : configuration.headTimeout)
    handshakeEnded(on: loop)
  }

  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
    var offset = 0
    do throws(HTTPError) {
      while stream?.isOutputFull != true, try step(&bytes, from: &offset, on: loop) {}
    } catch {
      refuse(error, on: loop)
      return bytes.count
    }
    // What a client sends before it is answered waits with TCP, but for what came with this read.
    if offset < bytes.count, isRequestWhole { stream?.pauseReading(on: loop) }
    return offset
  }

  /// Whether what comes now belongs to the next request.
  private var isRequestWhole: Bool {
    switch state {
    case .responding: true
    case .streaming(let exchange): exchange.body.hasEnded
    case .idle, .head, .body, .upgraded, .closed: false
    }
  }

  func streamEnded(on loop: isolated EventLoop) {
    switch state {
    case .responding:
      // Else the answer may still be wanted: the client has closed its direction only.
      if isCancelledByClosing { stream?.close(on: loop) }
    case .streaming(let exchange):
      streamingEnded(exchange, on: loop)
    case .idle, .head, .body, .upgraded, .closed:
      stream?.close(on: loop)
    }
  }

  func streamDrained(on loop: isolated EventLoop) {
    if case .streaming(let exchange) = state { exchange.drained(on: loop) }
  }

  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
    if case .streaming(let exchange) = state {
      let closed = TransportError.closed("the connection is closed", peer: stream?.remoteAddress)
      exchange.connectionClosed(error ?? closed, on: loop)
    }
    unsafe handler?.cancel()
    finish(on: loop)
    if let error { shard.connectionFailed(error) }
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    switch state {
    case .idle:
      if isFirstRequest, !shard.isDraining { Refusals.count(.silent) }
      stream?.close(on: loop)
    case .head:
      respondAndClose(.requestTimeout, on: loop)
    case .body(let body):
      bodyTimerFired(body, on: loop)
    case .responding:
      respondAndClose(.serviceUnavailable, on: loop)
    case .streaming(let exchange):
      streamTimerFired(exchange, on: loop)
    case .upgraded, .closed:
      break
    }
  }

  // MARK: Requests

  /// Takes one step of the parser; returns whether to go on.
  private func step(
    _ bytes: inout MutableSpan<UInt8>, from offset: inout Int, on loop: isolated EventLoop
  ) throws(HTTPError) -> Bool {
    switch state {
    case .responding, .upgraded, .closed: return false
    case .streaming(let exchange):
      // The end of a body needs no byte of its own: it is looked for even without room.
      if exchange.body.isFull, offset < bytes.count { return false }
    case .idle, .head, .body: break
    }
    switch try parser.next(bytes.span, from: &offset) {
    case .head:
      return try headReceived(&bytes, from: &offset, on: loop)
    case .body(let range):
      return bodyReceived(range, in: bytes.span, on: loop)
    case .end:
      requestReceived(on: loop)
      return true
    case .upgraded, .informational:
      return false  // responses only
    case .needBytes:
      if case .idle = state, offset < bytes.count {
        state = .head
        if !isFirstRequest { loop.core.arm(timer, after: configuration.headTimeout) }
      }
      return false
    case .paused:
      return false
    }
  }

  private func headReceived(
    _ bytes: inout MutableSpan<UInt8>, from offset: inout Int, on loop: isolated EventLoop
  ) throws(HTTPError) -> Bool {
    guard let stream else { return false }
    let head = parser.head
    var request = HTTPServerRequest(
      method: head.method, target: head.originTarget(in: bytes.span),
      fields: head.ownedFields(in: bytes.span), body: [], identity: stream.identity,
      remoteAddress: stream.remoteAddress, localAddress: stream.localAddress)
    if let origin = request.fields["Origin"], !configuration.allowedOrigins.contains(origin) {
      respondAndClose(.forbidden, "pages of this Origin are not served", on: loop)
      return false
    }
    if head.upgradesToWebSocket {
      try upgrade(request, &bytes, from: &offset, on: loop)
      return false
    }
    if let handler = shard.streamHandler(for: request) {
      if head.expectsContinue { sendContinue(on: loop) }
      startStreaming(request, handler, on: loop)
      return true
    }
    if case .length(let count) = head.bodyLength {
      guard count <= configuration.http.bodyBytesMax else { return refuseBody(on: loop) }
      request.body.reserveCapacity(min(count, 64 << 10))
    }
    if head.expectsContinue { sendContinue(on: loop) }
    let now = loop.core.now
    state = .body(IncomingBody(request: request, keepsAlive: head.isKeepAlive, startedAt: now))
    loop.core.arm(timer, after: configuration.bodyGrace)
    return true
  }

  /// Takes a part of a body; returns whether to go on.
  private func bodyReceived(
    _ range: Range<Int>, in bytes: Span<UInt8>, on loop: isolated EventLoop
  ) -> Bool {
    if case .streaming(let exchange) = state {
      return streamReceived(range, in: bytes, exchange, on: loop)
    }
    guard case .body(var body) = state else { return false }
    guard body.request.body.count + range.count <= configuration.http.bodyBytesMax else {
      return refuseBody(on: loop)
    }
    state = .idle  // gives up the other reference, so that appending does not copy
    bytes.extracting(range).append(to: &body.request.body)
    state = .body(body)
    return true
  }

  private func refuseBody(on loop: isolated EventLoop) -> Bool {
    respondAndClose(.contentTooLarge, on: loop)
    return false
  }

  private func requestReceived(on loop: isolated EventLoop) {
    if case .streaming(let exchange) = state { return exchange.body.complete(on: loop) }
    guard case .body(let body) = state else { return }
    state = .responding(keepsAlive: body.keepsAlive, isHead: body.request.method == .head)
    loop.core.arm(timer, after: configuration.handlerTimeout)
    isCancelledByClosing = shard.isCancelledByClosing(body.request)
    shard.handle(body.request, for: self, on: loop)
    if case .responding = state, !isCancelledByClosing { stream?.pauseReading(on: loop) }
  }

  /// The handler is about to run in the current task, which is cancelled when the connection closes.
  func handlerBegins() {
    unsafe handler = withUnsafeCurrentTask { unsafe $0 }
  }

  func handlerEnded() {
    unsafe handler = nil
  }

  /// A body has to bring bytes: after the grace, at least the configured rate on the whole.
  private func bodyTimerFired(_ body: IncomingBody, on loop: isolated EventLoop) {
    let elapsed = loop.core.now - body.startedAt
    if configuration.bodyRate.isTooSlow(body.request.body.count, after: elapsed) {
      respondAndClose(.requestTimeout, on: loop)
    } else {
      loop.core.arm(timer, after: .seconds(1))
    }
  }

  // MARK: Answers

  /// Sends the answer of the request that is with its handler.
  func respond(_ response: HTTPServerResponse, on loop: isolated EventLoop) {
    guard case .responding(let keepsAlive, let isHead) = state, let stream else { return }
    let keeps = keepsAlive && !response.closesConnection && !shard.isDraining
    append(response, keepsAlive: keeps, isHead: isHead, on: loop)
    // A large answer goes out at once, and may meet a connection that is broken.
    guard case .responding = state else { return }
    guard keeps else {
      state = .closed
      loop.core.cancel(timer)
      return stream.close(on: loop)
    }
    startNextCycle(on: loop)
  }

  func startNextCycle(on loop: isolated EventLoop) {
    guard !hasClientEnded else {
      state = .closed
      loop.core.cancel(timer)
      stream?.close(on: loop)
      return
    }
    isFirstRequest = false
    parser.startNextCycle()
    state = .idle
    loop.core.arm(timer, after: configuration.idleTimeout)
    stream?.resumeReading(on: loop)
  }

  private func append(
    _ response: HTTPServerResponse, keepsAlive: Bool, isHead: Bool, on loop: isolated EventLoop
  ) {
    guard let stream else { return }
    let connection = HTTPConnectionField(
      keepsAlive: keepsAlive, idleSeconds: Int(configuration.idleTimeout.components.seconds))
    do {
      try stream.output.appendHTTPResponseHead(
        response.status, fields: response.fields, contentLength: response.body.count,
        date: shard.date(on: loop), connection: connection)
    } catch {
      // A handler's field that would split the response: the answer goes out without its fields.
      shard.handlerFailed(error)
      stream.output.appendHTTPResponseHead(
        .internalServerError, contentLength: 0, date: shard.date(on: loop), connection: connection)
      return stream.outputAppended(on: loop)
    }
    if !isHead, !response.status.hasNoBody { stream.output.append(contentsOf: response.body) }
    stream.outputAppended(on: loop)
  }

  private func refuse(_ error: HTTPError, on loop: isolated EventLoop) {
    shard.requestRefused(error, from: stream?.remoteAddress)
    let status = HTTPStatus(code: error.statusHint)
    if case .streaming(let exchange) = state { return endStreaming(status, exchange, on: loop) }
    respondAndClose(status, on: loop)
  }

  /// Refuses what is under way, or gives it up.
  func respondAndClose(_ status: HTTPStatus, _ text: String = "", on loop: isolated EventLoop) {
    Refusals.count(status)
    state = .responding(keepsAlive: false, isHead: false)
    var response = HTTPServerResponse(status, body: Array(text.utf8))
    response.closesConnection = true
    respond(response, on: loop)
  }

  private func sendContinue(on loop: isolated EventLoop) {
    stream?.output.appendHTTPContinue()
    stream?.outputAppended(on: loop)
  }

  // MARK: The upgrade

  private func upgrade(
    _ request: HTTPServerRequest, _ bytes: inout MutableSpan<UInt8>, from offset: inout Int,
    on loop: isolated EventLoop
  ) throws(HTTPError) {
    guard let stream else { return }
    switch shard.upgrade(request, on: loop) {
    case .refuse(let response):
      Refusals.count(response.status)
      state = .responding(keepsAlive: false, isHead: false)
      respond(response, on: loop)
    case .accept(let fields, let agreement, let handler):
      try stream.output.appendHTTPSwitchingProtocols(fields: fields)
      stream.outputAppended(on: loop)
      loop.core.cancel(timer)
      state = .upgraded
      let connection = WebSocketConnection(
        stream: stream, role: .server, limits: configuration.webSocket,
        options: configuration.webSocketOptions, agreement: agreement,
        closeTimeout: configuration.stream.closeTimeout, handler: handler, on: loop)
      connection.owner = shard
      shard.upgraded(self, to: connection)
      stream.setDelegate(connection)
      self.stream = nil
      offset = connection.receive(&bytes, from: offset, on: loop)
    }
  }

  private func handshakeEnded(on loop: isolated EventLoop) {
    guard let number = handshake else { return }
    handshake = nil
    shard.handshakeEnded(number, on: loop)
  }

  private func finish(on loop: isolated EventLoop) {
    state = .closed
    loop.core.cancel(timer)
    stream = nil
    handshakeEnded(on: loop)
    shard.remove(self, on: loop)
  }
}
