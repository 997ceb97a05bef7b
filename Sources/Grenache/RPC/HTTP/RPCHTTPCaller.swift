internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// The calls of a client over HTTPS, confined to its loop.
final class RPCHTTPCaller {
  private let client: HTTPClient
  private let compresses: Bool
  private let connectTimeout: Duration
  private let bodyBytesMax: Int
  private let callBytesMax: Int
  private var lastID: UInt64 = 0

  init(context: TLSContext?, configuration: PeerRPCClientConfiguration) {
    var settings = HTTPClientConfiguration()
    settings.http = configuration.http
    settings.connectionsPerDestinationMax = configuration.httpConnectionsPerWorkerMax
    settings.waitingMax = configuration.callsInFlightMax
    settings.idleTimeout = configuration.idleTimeout
    settings.connectTimeout = configuration.connectTimeout
    connectTimeout = configuration.connectTimeout
    client = HTTPClient(context: context, configuration: settings)
    compresses = configuration.compressesHTTP
    bodyBytesMax = configuration.http.bodyBytesMax
    callBytesMax = configuration.callBytesMax
  }

  func close(on loop: isolated EventLoop) {
    client.close(on: loop)
  }

  /// Makes a connection and keeps it for a call, where there is none.
  func connect(
    to destination: Destination, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(TransportError) -> Bool {
    try await client.connect(to: destination, by: deadline, on: loop)
  }

  // MARK: Calls

  /// - Parameter mayRepeat: asked before an idempotent call is sent again, because the kept connection turned
  ///   out to be closed.
  func call(
    _ call: RPCCall, to destination: Destination, by deadline: MonotonicTime,
    mayRepeat: () -> Bool, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    lastID &+= 1
    let id = lastID
    let request = try request(id, call)
    let response: HTTPClientResponse
    do {
      response = try await client.send(
        request, to: destination, by: deadline, isRetryable: call.options.isIdempotent,
        connectingBy: { [connectTimeout] in call.connectLimit(within: deadline, connectTimeout) },
        mayRepeat: mayRepeat, on: loop
      ) { request in
        // Not before: the wait for a connection is not the worker's to have.
        request.fields.append(
          RPCCallContext.timeoutField, "\(deadline.millisecondsLeft(at: .now()))")
      }
    } catch {
      throw GrenacheError(
        calling: call.service, at: destination.endpoint, isLate: call.deadline <= .now(), error)
    }
    return try reply(response, id, from: destination.endpoint)
  }

  /// The request as existing peers make it; `Content-Type` is theirs, too.
  private func request(
    _ id: UInt64, _ call: RPCCall
  ) throws(GrenacheError) -> HTTPClientRequest {
    var body: [UInt8] = []
    RPCRequestEnvelope.append(
      rid: id, service: call.service, payload: call.payload, to: &body)
    try call.checkSize(body.count, callBytesMax)
    var fields: HTTPFields = [
      (RPCHTTPHead.compressionField, compresses ? "gzip" : "none"), ("Accept", "*/*"),
    ]
    if compresses {
      do {
        body = try Gzip.encode(body.span)
      } catch {
        throw GrenacheError(.limitReached, error.message)
      }
    } else {
      fields.append("Content-Type", "text/plain;charset=UTF-8")
    }
    Self.append(call.options.metadata, to: &fields)
    return HTTPClientRequest(.post, "/", fields: fields, body: body)
  }

  /// What existing servers pay no attention to (`docs/wire-extensions.md`).
  static func append(_ metadata: [String: String], to fields: inout HTTPFields) {
    guard !metadata.isEmpty else { return }
    var text: [UInt8] = []
    RPCCallContext.append(metadata: metadata, to: &text)
    fields.append(RPCCallContext.metadataField, String(decoding: text, as: UTF8.self))
  }

  private func reply(
    _ response: HTTPClientResponse, _ id: UInt64, from worker: Endpoint
  ) throws(GrenacheError) -> RPCReply {
    guard response.status == .ok else {
      let text = String(decoding: response.body.prefix(200), as: UTF8.self)
      // Of a call that any of them answers it is not known whether it was carried out: servers say 503
      // of a handler that takes too long.
      throw GrenacheError(.invalidReply, "\(worker) answered \(response.status): \(text)")
    }
    var body = response.body
    if RPCHTTPCall.isGzip(body) {
      do {
        body = try Gzip.decode(body.span, limits: InflateLimits(outputBytesMax: bodyBytesMax))
      } catch {
        throw GrenacheError(.invalidReply, "\(worker) answered badly: \(error.message)")
      }
    }
    guard let envelope = RPCReplyEnvelope(body.span, checksUTF8: true),
      envelope.ridNumber(in: body.span) == id
    else {
      throw GrenacheError(.invalidReply, "\(worker) answered something else than was asked")
    }
    if let message = envelope.errorMessage(in: body.span) {
      let isExtended = response.fields[RPCReplyField.name] == RPCReplyField.error
      var error = GrenacheError(RPCFault.code(of: message, isExtended: isExtended), message)
      error.result = envelope.resultBesideError(in: body.span)
      throw error
    }
    return RPCReply(
      result: envelope.result.bytes(in: body.span), identity: response.identity,
      negotiated: response.negotiated, worker: worker)
  }

  // MARK: Streams

  func openStream(
    _ service: String, _ fields: HTTPFields, to destination: Destination,
    by deadline: MonotonicTime, connectingBy connectDeadline: MonotonicTime,
    ended: @escaping () -> Void, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> HTTPClientStream {
    lastID &+= 1
    var request: [UInt8] = []
    request.append(contentsOf: "[\"\(lastID)\",".utf8)
    request.appendJSONString(service)
    request.append(UInt8(ascii: "]"))
    var all: HTTPFields = [(RPCHTTPHead.requestField, String(decoding: request, as: UTF8.self))]
    for line in fields.lines { all.append(line.name, line.value) }
    do {
      return try await client.openStream(
        HTTPClientRequest(.post, "/", fields: all), to: destination, by: connectDeadline,
        ended: ended, on: loop)
    } catch {
      throw GrenacheError(
        calling: service, at: destination.endpoint, isLate: deadline <= .now(), error)
    }
  }
}

extension GrenacheError {
  /// What went wrong with a call over HTTPS: before anything was sent, or after.
  ///
  /// - Parameter isLate: whether the time for it is over.
  init(calling service: String, at worker: Endpoint, isLate: Bool, _ error: TransportError) {
    let isSent = error.stage == .transfer
    switch error.code {
    case .cancelled:
      self.init(.cancelled, "the call of \(service) was cancelled")
    case .timedOut where isSent || isLate:
      self.init(.deadlineExceeded, "\(worker) did not answer \(service) in time", cause: error)
    case .limitReached where !isSent:
      self.init(.limitReached, "no connection to \(worker) is free", cause: error)
    case .outOfResources where !isSent:
      self.init(.limitReached, "no connection to \(worker) can be made", cause: error)
    case .invalidRequest:
      self.init(.invalidPayload, "the call of \(service) cannot be sent", cause: error)
    case .protocolViolated:
      self.init(.invalidReply, "\(worker) does not answer as HTTP does", cause: error)
    default:
      // With TLS 1.3 a worker refuses this side's certificate when the handshake is over for this side:
      // it has looked at nothing that came behind it. Whatever else TLS says later says nothing of that.
      let isRefused = error.tls?.code == .refusedByPeer
      if error.tls != nil, !isSent || isRefused {
        self.init(.workerNotTrusted, "\(worker) cannot be trusted with \(service)", cause: error)
      } else if isSent {
        self.init(
          .connectionLost, "the connection to \(worker) broke before the reply", cause: error)
      } else {
        self.init(.workerUnreachable, "\(worker) cannot be reached", cause: error)
      }
    }
  }
}

extension MonotonicTime {
  /// The milliseconds until then, up to one more than there are, and from 1 to 999,999,999: a worker that is told
  /// so many does not take a call for late before its caller does.
  package func millisecondsLeft(at now: MonotonicTime) -> UInt32 {
    guard nanoseconds > now.nanoseconds else { return 1 }
    return UInt32(min((nanoseconds - now.nanoseconds) / 1_000_000 + 1, 999_999_999))
  }

  /// The time so much later.
  package func adding(milliseconds: UInt32) -> MonotonicTime {
    let (sum, overflow) = nanoseconds.addingReportingOverflow(UInt64(milliseconds) * 1_000_000)
    return MonotonicTime(nanoseconds: overflow ? .max : sum)
  }
}
