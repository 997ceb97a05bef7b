internal import GrenacheFraming
internal import GrenacheIO
public import GrenacheTransport

/// A stream as its caller sees it: bytes go and come at the same time.
public struct RPCClientStream: Sendable {
  /// The worker that was connected to.
  public let worker: Endpoint
  private let stream: HTTPClientStream
  private let deadlines: RPCStreamDeadlines

  /// What an answer that is an error may hold.
  static let errorBytesMax = 64 << 10

  init(_ stream: HTTPClientStream, worker: Endpoint, deadlines: RPCStreamDeadlines) {
    self.stream = stream
    self.worker = worker
    self.deadlines = deadlines
  }

  /// Sends bytes to the worker; waits while it does not take those before. One writer at a time.
  ///
  /// - Throws: `GrenacheError`: `connectionLost`, `cancelled`, `deadlineExceeded`.
  public func write(_ bytes: [UInt8]) async throws(GrenacheError) {
    do {
      try await stream.writer.write(bytes)
    } catch {
      throw GrenacheError(streaming: error, until: deadlines.end)
    }
  }

  /// Says that nothing more will be sent.
  public func finish() async {
    await stream.writer.finish()
  }

  /// What the worker sends, once it has begun to answer.
  ///
  /// - Throws: `GrenacheError`: the worker's own error as `remoteError` where it is known for one;
  ///   `invalidReply` for an answer that is none; `deadlineExceeded` when it does not begin in time.
  public func incoming() async throws(GrenacheError) -> RPCByteStream {
    let head: HTTPClientResponse
    do {
      head = try await stream.response(by: deadlines.reply)
    } catch {
      throw GrenacheError(streaming: error, until: deadlines.end)
    }
    if head.status == .ok, head.fields[RPCReplyField.name] != RPCReplyField.error {
      return RPCByteStream(stream.body, until: deadlines.end)
    }
    let body = try await collect()
    guard head.status == .ok, let envelope = RPCReplyEnvelope(body.span, checksUTF8: true),
      let message = envelope.errorMessage(in: body.span)
    else {
      let text = String(decoding: body.prefix(200), as: UTF8.self)
      throw GrenacheError(.invalidReply, "\(worker) answered \(head.status): \(text)")
    }
    throw GrenacheError(RPCFault.code(of: message, isExtended: true), message)
  }

  func close() async {
    await stream.close()
  }

  /// An answer that is an error, which has to be there whole when the answer was to begin, or a second from
  /// now.
  private func collect() async throws(GrenacheError) -> [UInt8] {
    let limit = max(deadlines.reply, .now() + .seconds(1))
    let ending = Task {
      try await Task.sleep(for: limit - .now())
      await stream.close()
    }
    defer { ending.cancel() }
    var body: [UInt8] = []
    let end = min(limit, deadlines.end ?? limit)
    var iterator = RPCByteStream(stream.body, until: end).makeAsyncIterator()
    while let part = try await iterator.next() {
      body += part
      guard body.count <= Self.errorBytesMax else {
        throw GrenacheError(
          .invalidReply, "\(worker) answered an error of more than \(Self.errorBytesMax) bytes")
      }
    }
    return body
  }
}

extension PeerRPCClient {
  /// Opens a stream to a worker of `service` over HTTPS; at the end of `body` it is closed.
  ///
  ///     let answer = try await client.stream("upper") { stream in
  ///       try await stream.write(Array("hello".utf8))
  ///       await stream.finish()
  ///       var answer: [UInt8] = []
  ///       for try await part in try await stream.incoming() { answer += part }
  ///       return answer
  ///     }
  ///
  /// Workers that cannot be reached are passed over. What `body` leaves unread or unsent is lost, and
  /// the worker's handler is cancelled. So it is with a stream that lasts longer than it may: what
  /// `body` reads and writes from then on fails with `deadlineExceeded`.
  ///
  /// - Parameters:
  ///   - service: the service to call.
  ///   - action: the field `_a`.
  ///   - metadata: what the handler sees beside it, as much as `RPCCallOptions.metadata` may hold.
  ///   - worker: the one worker to connect to; without it, one that the lookup finds.
  ///   - timeout: how long the lookup, connecting and the beginning of the answer may take in all.
  ///   - duration: how long the whole of it may take, which the worker is told; without it, as long as
  ///     both sides go on.
  ///   - body: writes and reads; the stream is good until it returns.
  /// - Throws: `GrenacheError`, and what `body` throws.
  public func stream<Result: Sendable>(
    _ service: String, action: String? = nil, metadata: [String: String] = [:],
    to worker: Endpoint? = nil, within timeout: Duration? = nil, lasting duration: Duration? = nil,
    _ body: (RPCClientStream) async throws -> Result
  ) async throws -> Result {
    let deadlines = RPCStreamDeadlines(
      reply: timeout ?? configuration.callTimeout, end: duration, from: .now())
    let core = core
    let head = try RPCStreamHead(service, action: action, metadata: metadata)
    let stream = try await Self.openStream(
      service, head, to: worker, by: deadlines, core: core, on: core.loop)
    let ending = deadlines.end.map { end in
      Task {
        try await Task.sleep(for: end - .now())
        await stream.close()
      }
    }
    defer { ending?.cancel() }
    do {
      let result = try await body(stream)
      await stream.close()
      return result
    } catch {
      await stream.close()
      throw error
    }
  }

  private static func openStream(
    _ service: String, _ head: RPCStreamHead, to worker: Endpoint?,
    by deadlines: RPCStreamDeadlines,
    core: LoopBound<RPCClientCore>, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCClientStream {
    try await core.get(on: loop).openStream(service, head, to: worker, by: deadlines, on: loop)
  }
}

/// What the caller of a stream says of it before its bytes.
struct RPCStreamHead: Sendable {
  let fields: HTTPFields

  /// - Throws: `invalidPayload` for more metadata than a call may have.
  init(
    _ service: String, action: String?, metadata: [String: String]
  ) throws(GrenacheError) {
    var options = RPCCallOptions()
    options.metadata = metadata
    guard options.hasValidMetadata else {
      throw GrenacheError(
        .invalidPayload, "the metadata of \(service) is more than a call may have")
    }
    var fields = HTTPFields()
    if let action { fields.append(RPCHTTPHead.actionField, action) }
    RPCHTTPCaller.append(metadata, to: &fields)
    self.fields = fields
  }
}
