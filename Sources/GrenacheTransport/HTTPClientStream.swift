internal import GrenacheFraming
package import GrenacheIO
internal import GrenacheTLS

/// A request and its response that are streamed at the same time.
package struct HTTPClientStream: Sendable {
  /// The parts of the response's body as they come.
  package let body: HTTPBody
  /// Where the parts of the request's body are written.
  package let writer: HTTPBodyWriter
  private let exchange: LoopBound<HTTPClientExchange>

  init(_ exchange: HTTPClientExchange, on loop: isolated EventLoop) {
    body = HTTPBody(exchange.body, on: loop)
    writer = HTTPBodyWriter(exchange.output, on: loop)
    self.exchange = LoopBound(exchange, on: loop)
  }

  /// The head of the response, its body left out; it may come before the request has ended.
  package func response(
    by deadline: MonotonicTime
  ) async throws(TransportError) -> HTTPClientResponse {
    try await Self.response(exchange, by: deadline, on: exchange.loop)
  }

  /// Closes the connection; whatever has not come or gone by then is lost.
  package func close() async {
    let exchange = exchange
    await exchange.loop.run { loop in exchange.get(on: loop).close(on: loop) }
  }

  private static func response(
    _ exchange: LoopBound<HTTPClientExchange>, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientResponse {
    try await exchange.get(on: loop).response(by: deadline, on: loop)
  }
}

/// The connection of one stream, confined to its loop.
///
///     connecting → open (request and response in parts) → closed
final class HTTPClientExchange: ByteStreamDelegate, LoopTimerTarget, HTTPBodySource {
  private typealias Head = Result<HTTPClientResponse, TransportError>

  let body: HTTPBodyPipe
  let output: HTTPBodyOutput
  /// Called once when the connection is closed.
  private var ended: (() -> Void)?

  private let stream: ByteStream
  private let configuration: HTTPClientConfiguration
  private var parser: HTTPResponseParser
  private let opening = LoopPromise<TransportError?>()
  private var head: Head?
  private var headWaiting: LoopPromise<Void>?
  private var received = 0
  private var idleWatch = IdleWatch(at: MonotonicTime(nanoseconds: 0))
  private lazy var timer = TargetTimer(self)

  private init(
    _ method: HTTPMethod, stream: ByteStream, configuration: HTTPClientConfiguration,
    ended: @escaping () -> Void
  ) {
    self.ended = ended
    self.stream = stream
    self.configuration = configuration
    output = HTTPBodyOutput(stream, isChunked: true)
    body = HTTPBodyPipe(bytesMax: configuration.streamBufferBytesMax)
    var limits = configuration.http
    limits.bodyBytesMax = configuration.streamedBodyBytesMax
    parser = HTTPResponseParser(limits: limits)
    parser.expectResponse(to: method)
    body.source = self
  }

  /// - Parameter ended: called once, when the connection is closed or none has come about.
  static func open(
    _ request: HTTPClientRequest, to destination: Destination, context: TLSContext?,
    configuration: HTTPClientConfiguration, by deadline: MonotonicTime,
    ended: @escaping () -> Void, on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientExchange {
    let stream: ByteStream
    var limits = configuration.stream
    limits.outputHighWaterBytes = configuration.streamOutputBytesMax
    limits.outputLowWaterBytes = configuration.streamOutputBytesMax / 4
    do throws(TransportError) {
      let socket = try await Dialer.connect(to: destination.endpoint, by: deadline, on: loop)
      stream = try Dialer.stream(
        over: socket, to: destination, context: context, limits: limits,
        delegate: Unattached(), by: deadline, on: loop)
    } catch {
      ended()
      throw error
    }
    let exchange = HTTPClientExchange(
      request.method, stream: stream, configuration: configuration, ended: ended)
    stream.setDelegate(exchange)
    stream.start(on: loop)
    let outcome = await exchange.opening.wait(until: deadline, on: loop)
    do throws(TransportError) {
      try exchange.checkOpened(outcome)
      try exchange.sendHead(of: request, to: destination, on: loop)
    } catch {
      stream.fail(error, on: loop)
      throw error
    }
    return exchange
  }

  private func checkOpened(
    _ outcome: LoopPromise<TransportError?>.Outcome
  ) throws(TransportError) {
    let failure = try outcome.value(
      .handshake, "no connection by the deadline", peer: stream.remoteAddress)
    if let failure { throw failure }
  }

  private func sendHead(
    of request: HTTPClientRequest, to destination: Destination, on loop: isolated EventLoop
  ) throws(TransportError) {
    guard stream.isOpen else {
      throw .closed("the server closed the connection", peer: stream.remoteAddress)
    }
    // The connection serves this request alone; existing peers say so, too.
    var fields = request.fields
    fields.append("Connection", "close")
    fields.append("Transfer-Encoding", "chunked")
    do {
      try stream.output.appendHTTPRequestHead(
        request.method, target: request.target, host: destination.endpoint.description,
        fields: fields, contentLength: nil)
    } catch {
      throw TransportError(.invalidRequest, stage: .transfer, message: error.description)
    }
    stream.outputAppended(on: loop)
    idleWatch = IdleWatch(at: loop.core.now)
    loop.core.arm(timer, after: IdleWatch.interval)
  }

  // MARK: From the user

  func response(
    by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientResponse {
    if let head { return try head.get() }
    let promise = LoopPromise<Void>()
    headWaiting = promise
    let outcome = await promise.wait(until: deadline, on: loop)
    if let head { return try head.get() }
    try outcome.value(.transfer, "no answer by the deadline", peer: stream.remoteAddress)
    throw .closed("no response", peer: stream.remoteAddress)
  }

  func close(on loop: isolated EventLoop) {
    // With everything said and heard, in order; else at once, so that nothing is taken for whole.
    if body.isComplete, !output.isOpen {
      stream.close(on: loop)
    } else {
      stream.fail(.closed("closed by this side", peer: stream.remoteAddress), on: loop)
    }
  }

  func bodyHasRoom(on loop: isolated EventLoop) {
    stream.resumeReading(on: loop)
  }

  // MARK: From the stream

  func streamOpened(on loop: isolated EventLoop) {
    opening.fulfil(nil, on: loop)
  }

  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
    var offset = 0
    do throws(HTTPError) {
      while try step(bytes.span, from: &offset, on: loop) {}
    } catch {
      stream.fail(TransportError(error, peer: stream.remoteAddress), on: loop)
      return bytes.count
    }
    // What comes behind the end answers nothing and is not kept.
    return body.hasEnded ? bytes.count : offset
  }

  private func step(
    _ bytes: Span<UInt8>, from offset: inout Int, on loop: isolated EventLoop
  ) throws(HTTPError) -> Bool {
    if body.isFull {
      stream.pauseReading(on: loop)
      // The end of a body needs no byte of its own: it is looked for even without room.
      if offset < bytes.count { return false }
    }
    switch try parser.next(bytes, from: &offset) {
    case .head:
      let head = parser.head
      resolve(
        .success(
          HTTPClientResponse(
            status: head.status, fields: head.ownedFields(in: bytes), body: [],
            identity: stream.identity, negotiated: stream.negotiated)), on: loop)
      return true
    case .informational:
      return true
    case .body(let range):
      received += range.count
      body.receive(bytes.extracting(range), on: loop)
      return true
    case .end:
      body.complete(on: loop)
      return false
    case .upgraded, .needBytes, .paused:
      return false
    }
  }

  func streamEnded(on loop: isolated EventLoop) {
    let peer = stream.remoteAddress
    do throws(HTTPError) {
      // A body without a length ends with the stream (RFC 9112 §6.3, rule 8).
      if try parser.endOfStream() == .end { body.complete(on: loop) }
      if body.isComplete {
        output.fail(.closed("the server has answered and closed", peer: peer), on: loop)
        return stream.close(on: loop)
      }
      stream.fail(.closed("the server closed the connection", peer: peer), on: loop)
    } catch {
      stream.fail(TransportError(error, peer: peer), on: loop)
    }
  }

  func streamDrained(on loop: isolated EventLoop) {
    output.drained(on: loop)
  }

  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
    loop.core.cancel(timer)
    let failure = error ?? .closed("the connection is closed", peer: stream.remoteAddress)
    opening.fulfil(failure, on: loop)
    resolve(.failure(failure), on: loop)
    body.fail(failure, on: loop)
    output.fail(failure, on: loop)
    let ended = self.ended
    self.ended = nil
    ended?()
  }

  /// A stream has to move.
  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    guard stream.isOpen else { return }
    loop.core.arm(timer, after: IdleWatch.interval)
    let timeout = configuration.streamIdleTimeout
    guard idleWatch.isIdle(received + output.written, at: loop.core.now, for: timeout) else {
      return
    }
    stream.fail(.timedOut(.transfer, after: timeout, peer: stream.remoteAddress), on: loop)
  }

  private func resolve(_ head: Head, on loop: isolated EventLoop) {
    guard self.head == nil else { return }
    self.head = head
    headWaiting?.fulfil((), on: loop)
    headWaiting = nil
  }
}

/// Stands in until the exchange exists, which needs its stream first.
private final class Unattached: ByteStreamDelegate {
  func streamOpened(on loop: isolated EventLoop) {}
  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int { 0 }
  func streamEnded(on loop: isolated EventLoop) {}
  func streamDrained(on loop: isolated EventLoop) {}
  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {}
}
