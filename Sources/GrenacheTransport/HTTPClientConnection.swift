internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS

/// One connection of an HTTP client, one request at a time, confined to its loop.
final class HTTPClientConnection: ByteStreamDelegate, LoopTimerTarget {
  private enum Outcome: Sendable {
    case opened
    case response(HTTPClientResponse)
    case failed(TransportError)
  }

  private var stream: ByteStream?
  private let host: String
  private let configuration: HTTPClientConfiguration
  private var parser: HTTPResponseParser
  private var promise: LoopPromise<Outcome>?
  private var response: HTTPClientResponse?
  private var keepsAlive = true
  /// What the server has said with its last response.
  private var serverKeepAlive = HTTPClientKeepAlive(nil)
  /// Why the stream has closed: a server may refuse a certificate when the handshake is over already.
  private var failure: TransportError?
  private lazy var idleTimer = TargetTimer(self)
  /// Whether the current request has been answered in part.
  private(set) var hasReceivedBytes = false

  private init(host: String, configuration: HTTPClientConfiguration) {
    self.host = host
    self.configuration = configuration
    parser = HTTPResponseParser(limits: configuration.http)
  }

  /// Whether the next request can go over this connection.
  var isUsable: Bool { keepsAlive && stream?.isOpen == true && promise == nil }

  static func open(
    to destination: Destination, context: TLSContext?, configuration: HTTPClientConfiguration,
    by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientConnection {
    let socket = try await Dialer.connect(to: destination.endpoint, by: deadline, on: loop)
    let connection = HTTPClientConnection(
      host: destination.endpoint.description, configuration: configuration)
    let stream = try Dialer.stream(
      over: socket, to: destination, context: context, limits: configuration.stream,
      delegate: connection, by: deadline, on: loop)
    connection.stream = stream
    let promise = LoopPromise<Outcome>()
    connection.promise = promise
    stream.start(on: loop)
    _ = try await connection.outcome(of: promise, stage: .handshake, by: deadline, on: loop)
    return connection
  }

  func send(
    _ request: HTTPClientRequest, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientResponse {
    guard let stream, isUsable else {
      throw failure ?? .closed("the connection is closed", peer: self.stream?.remoteAddress)
    }
    loop.core.cancel(idleTimer)
    hasReceivedBytes = false
    do {
      try stream.output.appendHTTPRequestHead(
        request.method, target: request.target, host: host, fields: request.fields,
        contentLength: request.body.count)
    } catch {
      throw TransportError(.invalidRequest, stage: .transfer, message: error.description)
    }
    stream.output.append(contentsOf: request.body)
    parser.expectResponse(to: request.method)
    let promise = LoopPromise<Outcome>()
    self.promise = promise
    stream.outputAppended(on: loop)
    let outcome = try await outcome(of: promise, stage: .transfer, by: deadline, on: loop)
    guard case .response(let response) = outcome else {
      throw .closed("no response", peer: stream.remoteAddress)
    }
    return response
  }

  /// Waits; whatever is not a success closes the connection, which nobody can use any more.
  private func outcome(
    of promise: LoopPromise<Outcome>, stage: TransportError.Stage, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> Outcome {
    let outcome = await promise.wait(until: deadline, on: loop)
    do throws(TransportError) {
      let value = try outcome.value(
        stage, "no answer by the deadline", peer: stream?.remoteAddress)
      if case .failed(let error) = value { throw error }
      return value
    } catch {
      self.promise = nil
      stream?.fail(error, on: loop)
      throw error
    }
  }

  func becomeIdle(on loop: isolated EventLoop) {
    loop.core.arm(
      idleTimer, after: serverKeepAlive.idleTimeout(atMost: configuration.idleTimeout))
  }

  func close(on loop: isolated EventLoop) {
    keepsAlive = false
    stream?.close(on: loop)
  }

  /// Breaks off what is under way.
  func abort(on loop: isolated EventLoop) {
    keepsAlive = false
    stream?.fail(.closed("this client has been closed", peer: stream?.remoteAddress), on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    close(on: loop)
  }

  // MARK: From the stream

  func streamOpened(on loop: isolated EventLoop) {
    fulfil(.opened, on: loop)
  }

  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
    guard promise != nil else {
      // A response that nobody asked for: the connection cannot be trusted any more.
      keepsAlive = false
      stream?.close(on: loop)
      return bytes.count
    }
    hasReceivedBytes = true
    var offset = 0
    do throws(HTTPError) {
      while try step(bytes.span, from: &offset, on: loop) {}
    } catch {
      fail(TransportError(error, peer: stream?.remoteAddress), on: loop)
      return bytes.count
    }
    return offset
  }

  private func step(
    _ bytes: Span<UInt8>, from offset: inout Int, on loop: isolated EventLoop
  ) throws(HTTPError) -> Bool {
    switch try parser.next(bytes, from: &offset) {
    case .head:
      let head = parser.head
      let fields = head.ownedFields(in: bytes)
      serverKeepAlive = HTTPClientKeepAlive(fields["Keep-Alive"])
      keepsAlive = head.isKeepAlive && serverKeepAlive.isUsable
      response = HTTPClientResponse(
        status: head.status, fields: fields, body: [], identity: stream?.identity,
        negotiated: stream?.negotiated)
      return true
    case .informational:
      return true
    case .body(let range):
      if var whole = response {
        response = nil  // gives up the other reference, so that appending does not copy
        bytes.extracting(range).append(to: &whole.body)
        response = whole
      }
      return true
    case .end:
      // Bytes behind the response answer nothing: the connection cannot be trusted any more.
      if offset < bytes.count { keepsAlive = false }
      finish(on: loop)
      return false
    case .upgraded, .needBytes, .paused:
      return false
    }
  }

  private func finish(on loop: isolated EventLoop) {
    guard let response else { return }
    self.response = nil
    parser.startNextCycle()
    fulfil(.response(response), on: loop)
  }

  func streamEnded(on loop: isolated EventLoop) {
    do throws(HTTPError) {
      // A body without a length ends with the stream (RFC 9112 §6.3, rule 8).
      if try parser.endOfStream() == .end {
        keepsAlive = false
        finish(on: loop)
      }
      fail(.closed("the server closed the connection", peer: stream?.remoteAddress), on: loop)
    } catch {
      fail(TransportError(error, peer: stream?.remoteAddress), on: loop)
    }
    keepsAlive = false
    stream?.close(on: loop)
  }

  func streamDrained(on loop: isolated EventLoop) {}

  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
    keepsAlive = false
    loop.core.cancel(idleTimer)
    failure = error ?? .closed("the connection is closed", peer: stream?.remoteAddress)
    if let failure { fail(failure, on: loop) }
    stream = nil  // and with it what OpenSSL holds, even if nobody uses this connection again
  }

  private func fail(_ error: TransportError, on loop: isolated EventLoop) {
    fulfil(.failed(error), on: loop)
  }

  /// From here on nobody waits: whatever else comes was not asked for.
  private func fulfil(_ outcome: Outcome, on loop: isolated EventLoop) {
    let promise = self.promise
    self.promise = nil
    promise?.fulfil(outcome, on: loop)
  }
}
