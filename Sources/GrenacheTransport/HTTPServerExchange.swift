package import GrenacheFraming
package import GrenacheIO

/// Answers a request whose body it takes in parts, with parts of its own, both at the same time.
///
/// It runs on the connection's loop until it suspends. When it returns, the answer is over. When the
/// connection breaks, its task is cancelled.
package typealias HTTPStreamHandler =
  @Sendable (HTTPServerRequest, HTTPBody, HTTPResponseWriter) async -> Void

/// One request and its answer, both streamed, confined to the connection's loop.
final class HTTPServerExchange {
  private enum Response {
    case notStarted
    case started(HTTPBodyOutput)
    case over
  }

  let body: HTTPBodyPipe
  let keepsAlive: Bool
  let isHead: Bool
  let isHTTP10: Bool
  private var response = Response.notStarted
  private weak var connection: HTTPServerConnection?
  private var task: Task<Void, Never>?
  private(set) var received = 0
  /// For how long the peer's bytes have been waited for.
  var waited = Duration.zero
  var idleWatch = IdleWatch(at: MonotonicTime(nanoseconds: 0))

  init(
    connection: HTTPServerConnection, keepsAlive: Bool, isHead: Bool, isHTTP10: Bool,
    bufferBytesMax: Int
  ) {
    self.connection = connection
    self.keepsAlive = keepsAlive
    self.isHead = isHead
    self.isHTTP10 = isHTTP10
    body = HTTPBodyPipe(bytesMax: bufferBytesMax)
    body.source = connection
  }

  /// Whether a part of the answer has been sent.
  var hasStartedResponse: Bool {
    if case .notStarted = response { false } else { true }
  }

  /// The bytes that have moved in either direction.
  var moved: Int {
    if case .started(let output) = response { received + output.written } else { received }
  }

  func start(
    _ handler: @escaping HTTPStreamHandler, _ request: HTTPServerRequest,
    on loop: isolated EventLoop
  ) {
    task = Task { await run(handler, request, on: loop) }
  }

  private func run(
    _ handler: HTTPStreamHandler, _ request: HTTPServerRequest, on loop: isolated EventLoop
  ) async {
    await handler(
      request, HTTPBody(body, on: loop), HTTPResponseWriter(LoopBound(self, on: loop)))
    task = nil
    if case .notStarted = response { try? begin(.ok, [], on: loop) }
    if case .started(let output) = response { output.finish(on: loop) }
    response = .over
    connection?.exchangeEnded(self, on: loop)
  }

  // MARK: From the connection

  func receive(_ bytes: Span<UInt8>, on loop: isolated EventLoop) {
    received += bytes.count
    body.receive(bytes, on: loop)
  }

  func drained(on loop: isolated EventLoop) {
    if case .started(let output) = response { output.drained(on: loop) }
  }

  /// The request has been answered as a whole: what is left of it does not come any more.
  func answered(on loop: isolated EventLoop) {
    body.fail(.closed("the request has been answered", peer: nil), on: loop)
  }

  /// The connection is closed: nobody hears the answer.
  func connectionClosed(_ error: TransportError, on loop: isolated EventLoop) {
    body.fail(error, on: loop)
    if case .started(let output) = response { output.fail(error, on: loop) }
    task?.cancel()
  }

  // MARK: From the handler

  fileprivate func begin(
    _ status: HTTPStatus, _ fields: HTTPFields, on loop: isolated EventLoop
  ) throws(TransportError) {
    guard case .notStarted = response else { return }
    guard let connection else { throw .closed("the connection is closed", peer: nil) }
    response = .started(try connection.beginResponse(status, fields, of: self, on: loop))
  }

  fileprivate func write(
    _ bytes: [UInt8], on loop: isolated EventLoop
  ) async throws(TransportError) {
    try begin(.ok, [], on: loop)
    guard case .started(let output) = response else {
      throw .closed("the answer is over", peer: nil)
    }
    try await output.write(bytes, on: loop)
  }

  fileprivate func respond(
    _ whole: HTTPServerResponse, on loop: isolated EventLoop
  ) -> Bool {
    guard case .notStarted = response, let connection else { return false }
    response = .over
    connection.respondWhole(whole, of: self, on: loop)
    return true
  }

  fileprivate func abort(on loop: isolated EventLoop) {
    connection?.abort(self, on: loop)
  }
}

/// Where a stream's handler writes its answer.
package struct HTTPResponseWriter: Sendable {
  private let exchange: LoopBound<HTTPServerExchange>

  init(_ exchange: LoopBound<HTTPServerExchange>) {
    self.exchange = exchange
  }

  /// The loop of the connection.
  package var loop: EventLoop { exchange.loop }

  /// Sends the head of the answer, once; writing without it sends 200.
  package func start(
    _ status: HTTPStatus, fields: HTTPFields = HTTPFields()
  ) async throws(TransportError) {
    let exchange = exchange
    try await exchange.loop.run { loop throws(TransportError) in
      try exchange.get(on: loop).begin(status, fields, on: loop)
    }
  }

  /// Sends a part of the body; waits while the peer does not take what was sent before.
  package func write(_ bytes: [UInt8]) async throws(TransportError) {
    try await Self.write(bytes, exchange, on: exchange.loop)
  }

  /// Sends a whole answer, if no part of one has been sent; returns whether it could be.
  @discardableResult
  package func respond(_ response: HTTPServerResponse) async -> Bool {
    let exchange = exchange
    return await exchange.loop.run { loop in exchange.get(on: loop).respond(response, on: loop) }
  }

  /// Breaks the connection off, so that what was sent is not taken for the whole.
  package func abort() async {
    let exchange = exchange
    await exchange.loop.run { loop in exchange.get(on: loop).abort(on: loop) }
  }

  private static func write(
    _ bytes: [UInt8], _ exchange: LoopBound<HTTPServerExchange>, on loop: isolated EventLoop
  ) async throws(TransportError) {
    try await exchange.get(on: loop).write(bytes, on: loop)
  }
}
