internal import GrenacheFraming
internal import GrenacheIO

/// Streamed requests: what has come goes to the handler at once, and its answer is sent meanwhile.
extension HTTPServerConnection: HTTPBodySource {
  func startStreaming(
    _ request: HTTPServerRequest, _ handler: @escaping HTTPStreamHandler,
    on loop: isolated EventLoop
  ) {
    let head = parser.head
    let exchange = HTTPServerExchange(
      connection: self, keepsAlive: head.isKeepAlive, isHead: head.method == .head,
      isHTTP10: head.version == .http10, bufferBytesMax: configuration.streamBufferBytesMax)
    exchange.idleWatch = IdleWatch(at: loop.core.now)
    state = .streaming(exchange)
    loop.core.arm(timer, after: IdleWatch.interval)
    exchange.start(handler, request, on: loop)
  }

  func streamReceived(
    _ range: Range<Int>, in bytes: Span<UInt8>, _ exchange: HTTPServerExchange,
    on loop: isolated EventLoop
  ) -> Bool {
    guard exchange.received <= configuration.streamedBodyBytesMax - range.count else {
      endStreaming(.contentTooLarge, exchange, on: loop)
      return false
    }
    exchange.receive(bytes.extracting(range), on: loop)
    if exchange.body.isFull { stream?.pauseReading(on: loop) }
    return true
  }

  func bodyHasRoom(on loop: isolated EventLoop) {
    guard case .streaming = state else { return }
    stream?.resumeReading(on: loop)
  }

  /// The client has closed its direction: in the middle of the body nothing of it is whole.
  func streamingEnded(_ exchange: HTTPServerExchange, on loop: isolated EventLoop) {
    guard !exchange.body.hasEnded else {
      hasClientEnded = true
      return
    }
    let peer = stream?.remoteAddress
    stream?.fail(.closed("the client closed in the middle of a body", peer: peer), on: loop)
  }

  /// A body has to bring bytes while it is waited for, and a stream has to move.
  func streamTimerFired(_ exchange: HTTPServerExchange, on loop: isolated EventLoop) {
    loop.core.arm(timer, after: IdleWatch.interval)
    let timeout = configuration.streamIdleTimeout
    guard !exchange.idleWatch.isIdle(exchange.moved, at: loop.core.now, for: timeout) else {
      return endStreaming(.requestTimeout, exchange, on: loop)
    }
    // Once the answer has begun, both sides have their reasons to be slow.
    guard !exchange.body.hasEnded, !exchange.body.isFull, !exchange.hasStartedResponse
    else { return }
    exchange.waited += IdleWatch.interval
    if configuration.bodyRate.isTooSlow(exchange.received, after: exchange.waited) {
      endStreaming(.requestTimeout, exchange, on: loop)
    }
  }

  /// Ends an exchange that breaks a limit: with a status if nothing has been answered yet.
  func endStreaming(
    _ status: HTTPStatus, _ exchange: HTTPServerExchange, on loop: isolated EventLoop
  ) {
    let error = TransportError(
      .limitReached, stage: .transfer, message: "\(status)", peer: stream?.remoteAddress)
    if exchange.hasStartedResponse {
      Refusals.count(status)
      stream?.fail(error, on: loop)
    } else {
      respondAndClose(status, on: loop)
      exchange.connectionClosed(error, on: loop)
    }
  }

  // MARK: The answer

  func beginResponse(
    _ status: HTTPStatus, _ fields: HTTPFields, of exchange: HTTPServerExchange,
    on loop: isolated EventLoop
  ) throws(TransportError) -> HTTPBodyOutput {
    guard case .streaming(let current) = state, current === exchange, let stream else {
      throw .closed("the connection is closed", peer: stream?.remoteAddress)
    }
    let keepsAlive = exchange.keepsAlive && !shard.isDraining
    let connection = HTTPConnectionField(
      keepsAlive: keepsAlive, idleSeconds: Int(configuration.idleTimeout.components.seconds))
    do {
      try stream.output.appendHTTPStreamedResponseHead(
        status, fields: fields, date: shard.date(on: loop), connection: connection,
        isChunked: !exchange.isHTTP10)
    } catch {
      shard.handlerFailed(error)
      throw TransportError(.invalidRequest, stage: .transfer, message: error.description)
    }
    stream.outputAppended(on: loop)
    return HTTPBodyOutput(stream, isChunked: !exchange.isHTTP10, isSilent: exchange.isHead)
  }

  /// A whole answer in place of a streamed one. What is left of the request ends with the connection.
  func respondWhole(
    _ response: HTTPServerResponse, of exchange: HTTPServerExchange, on loop: isolated EventLoop
  ) {
    guard case .streaming(let current) = state, current === exchange else { return }
    state = .responding(
      keepsAlive: exchange.keepsAlive && exchange.body.isComplete, isHead: exchange.isHead)
    respond(response, on: loop)
    exchange.answered(on: loop)
  }

  /// The handler has broken its answer off: the client is not to take it for the whole.
  func abort(_ exchange: HTTPServerExchange, on loop: isolated EventLoop) {
    guard case .streaming(let current) = state, current === exchange else { return }
    stream?.fail(.closed("the handler broke its answer off", peer: stream?.remoteAddress), on: loop)
  }

  /// The handler has returned, and the answer with it.
  func exchangeEnded(_ exchange: HTTPServerExchange, on loop: isolated EventLoop) {
    guard case .streaming(let current) = state, current === exchange else { return }
    guard exchange.keepsAlive, exchange.body.isComplete, !exchange.isHTTP10, !shard.isDraining
    else {
      state = .closed
      loop.core.cancel(timer)
      stream?.close(on: loop)
      return
    }
    startNextCycle(on: loop)
  }
}
