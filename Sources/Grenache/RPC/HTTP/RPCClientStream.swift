internal import GrenacheFraming
internal import GrenacheIO
public import GrenacheTransport

/// A stream as its caller sees it: bytes go and come at the same time.
public struct RPCClientStream: Sendable {
  /// The worker that was connected to.
  public let worker: Endpoint
  private let stream: HTTPClientStream
  private let replyDeadline: MonotonicTime

  /// What an answer that is an error may hold.
  static let errorBytesMax = 64 << 10

  init(_ stream: HTTPClientStream, worker: Endpoint, replyDeadline: MonotonicTime) {
    self.stream = stream
    self.worker = worker
    self.replyDeadline = replyDeadline
  }

  /// Sends bytes to the worker; waits while it does not take those before. One writer at a time.
  ///
  /// - Throws: `GrenacheError`: `connectionLost`, `cancelled`.
  public func write(_ bytes: [UInt8]) async throws(GrenacheError) {
    do {
      try await stream.writer.write(bytes)
    } catch {
      throw GrenacheError(streaming: error)
    }
  }

  /// Says that nothing more will be sent.
  public func finish() async {
    await stream.writer.finish()
  }

  /// What the worker sends, once it has begun to answer.
  ///
  /// - Throws: `GrenacheError`: the worker's own error as `remoteError` where it is known for one;
  ///   `invalidReply` for an answer that is none.
  public func incoming() async throws(GrenacheError) -> RPCByteStream {
    let head: HTTPClientResponse
    do {
      head = try await stream.response(by: replyDeadline)
    } catch {
      throw GrenacheError(streaming: error)
    }
    if head.status == .ok, head.fields[RPCReplyField.name] != RPCReplyField.error {
      return RPCByteStream(stream.body)
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

  private func collect() async throws(GrenacheError) -> [UInt8] {
    var body: [UInt8] = []
    var iterator = RPCByteStream(stream.body).makeAsyncIterator()
    while body.count < Self.errorBytesMax, let part = try await iterator.next() { body += part }
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
  /// the worker's handler is cancelled.
  ///
  /// - Parameters:
  ///   - service: the service to call.
  ///   - action: the field `_a`.
  ///   - worker: the one worker to connect to; without it, one that the lookup finds.
  ///   - timeout: how long the lookup, connecting and the beginning of the answer may take in all.
  ///   - body: writes and reads; the stream is good until it returns.
  /// - Throws: `GrenacheError`, and what `body` throws.
  public func stream<Result: Sendable>(
    _ service: String, action: String? = nil, to worker: Endpoint? = nil,
    within timeout: Duration? = nil, _ body: (RPCClientStream) async throws -> Result
  ) async throws -> Result {
    let deadline = MonotonicTime.now() + (timeout ?? configuration.callTimeout)
    let core = core
    let stream = try await Self.openStream(
      service, action, to: worker, by: deadline, core: core, on: core.loop)
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
    _ service: String, _ action: String?, to worker: Endpoint?, by deadline: MonotonicTime,
    core: LoopBound<RPCClientCore>, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCClientStream {
    try await core.get(on: loop).openStream(service, action, to: worker, by: deadline, on: loop)
  }
}
