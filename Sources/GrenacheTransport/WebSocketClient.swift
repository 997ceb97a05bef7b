package import GrenacheFraming
package import GrenacheIO
package import GrenacheTLS

/// Opens WebSockets as a client (RFC 6455 §4.1).
package enum WebSocketClient {
  /// The path that existing Grenache peers ask for.
  package static let path = "/ws"

  /// Connects, verifies who answers, and upgrades, all by `deadline`.
  ///
  /// - Parameters:
  ///   - context: the certificates; `nil` connects in the clear.
  ///   - options: what is offered; compression only by choice.
  ///   - stream: the limits of the connection underneath.
  package static func connect(
    to destination: Destination, context: TLSContext?, limits: WebSocketLimits,
    options: WebSocketOptions = .client, stream streamLimits: ByteStreamLimits = ByteStreamLimits(),
    handler: any WebSocketHandler, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> WebSocketConnection {
    let socket = try await Dialer.connect(
      to: destination.endpoint, receiveBufferBytes: streamLimits.receiveBufferBytes, by: deadline,
      on: loop)
    let upgrade = WebSocketUpgrade(
      host: destination.endpoint.description, limits: limits, options: options, handler: handler)
    let stream = try Dialer.stream(
      over: socket, to: destination, context: context, limits: streamLimits,
      delegate: upgrade, by: deadline, on: loop)
    return try await upgrade.run(over: stream, by: deadline, on: loop)
  }
}

/// The client's side of an opening handshake in progress.
private final class WebSocketUpgrade: ByteStreamDelegate {
  /// The answer's head may have this many bytes.
  static let headLimits = HTTPLimits()

  private let host: String
  private let limits: WebSocketLimits
  private let options: WebSocketOptions
  private var handler: (any WebSocketHandler)?
  private var parser = HTTPResponseParser(limits: WebSocketUpgrade.headLimits)
  private let handshake: WebSocketClientHandshake
  private var stream: ByteStream?
  private var connection: WebSocketConnection?
  private let result = LoopPromise<TransportError?>()

  init(
    host: String, limits: WebSocketLimits, options: WebSocketOptions, handler: any WebSocketHandler
  ) {
    self.host = host
    self.limits = limits
    self.options = options
    self.handler = handler
    handshake = WebSocketClientHandshake(nonce: secureRandomBytes(16), options: options)
    parser.expectResponse(to: .get, mayUpgrade: true)
  }

  func run(
    over stream: ByteStream, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> WebSocketConnection {
    self.stream = stream
    stream.start(on: loop)
    let outcome = await result.wait(until: deadline, on: loop)
    let stage: TransportError.Stage = stream.isOpen ? .upgrade : .handshake
    do throws(TransportError) {
      let peer = stream.remoteAddress
      if let failure = try outcome.value(stage, "no answer by the deadline", peer: peer) {
        throw failure
      }
      guard let connection else { throw .closed("closed before the upgrade", peer: peer) }
      return connection
    } catch {
      handler = nil
      stream.fail(error, on: loop)
      throw error
    }
  }

  func streamOpened(on loop: isolated EventLoop) {
    guard let stream else { return }
    do throws(HTTPError) {
      try stream.output.appendHTTPRequestHead(
        .get, target: WebSocketClient.path, host: host, fields: handshake.fields,
        contentLength: nil)
      stream.outputAppended(on: loop)
    } catch {
      fail(TransportError(.invalidRequest, stage: .upgrade, message: error.description), on: loop)
    }
  }

  func streamReceived(_ bytes: inout MutableSpan<UInt8>, on loop: isolated EventLoop) -> Int {
    // Whoever has been told that it is over must not hear from its handler any more.
    guard let stream, let handler, !result.isOver else { return bytes.count }
    var offset = 0
    let agreement: WebSocketAgreement
    do throws(TransportError) {
      guard let agreed = try readHead(bytes.span, from: &offset) else { return offset }
      agreement = agreed
    } catch {
      fail(error, on: loop)
      return bytes.count
    }
    let connection = WebSocketConnection(
      stream: stream, role: .client, limits: limits, options: options, agreement: agreement,
      closeTimeout: ByteStreamLimits().closeTimeout, handler: handler, on: loop)
    self.connection = connection
    stream.setDelegate(connection)
    result.fulfil(nil, on: loop)
    return connection.receive(&bytes, from: offset, on: loop)
  }

  /// Reads the answer's head; what it agrees upon, or `nil` while it is incomplete.
  private func readHead(
    _ bytes: Span<UInt8>, from offset: inout Int
  ) throws(TransportError) -> WebSocketAgreement? {
    let peer = stream?.remoteAddress
    do throws(HTTPError) {
      var step = HTTPStep.informational
      while step == .informational { step = try parser.next(bytes, from: &offset) }
      if step == .needBytes { return nil }
    } catch {
      throw TransportError(error, peer: peer)
    }
    let head = parser.head
    do {
      return try handshake.validate(
        status: head.status, fields: head.ownedFields(in: bytes), sha1: Digest.sha1)
    } catch {
      let code: TransportError.Code =
        head.status == .forbidden ? .upgradeForbidden : .upgradeRefused
      throw TransportError(code, stage: .upgrade, message: error.message, peer: peer)
    }
  }

  func streamEnded(on loop: isolated EventLoop) {
    fail(.closed("the peer closed before the upgrade", peer: stream?.remoteAddress), on: loop)
  }

  func streamDrained(on loop: isolated EventLoop) {}

  func streamClosed(_ error: TransportError?, on loop: isolated EventLoop) {
    let closed = TransportError.closed("closed before the upgrade", peer: stream?.remoteAddress)
    fail(error ?? closed, on: loop)
  }

  private func fail(_ error: TransportError, on loop: isolated EventLoop) {
    result.fulfil(error, on: loop)
  }
}
