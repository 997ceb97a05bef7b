internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// The bytes of one direction of a stream as they come.
///
/// At most 64 KiB and what one read brought wait to be taken; then the peer meets TCP's flow control.
public struct RPCByteStream: AsyncSequence, Sendable {
  /// Some bytes, as many as had come.
  public typealias Element = [UInt8]

  private let body: HTTPBody
  private let end: MonotonicTime?

  /// - Parameter end: when the stream is over, for those who break it off then.
  init(_ body: HTTPBody, until end: MonotonicTime? = nil) {
    self.body = body
    self.end = end
  }

  /// Takes what comes.
  public struct AsyncIterator: AsyncIteratorProtocol, Sendable {
    private var body: HTTPBody.Iterator
    private let end: MonotonicTime?

    fileprivate init(_ body: HTTPBody.Iterator, until end: MonotonicTime?) {
      self.body = body
      self.end = end
    }

    /// The next bytes; `nil` once everything has come.
    ///
    /// - Throws: `GrenacheError`: `connectionLost` when the rest will not come, `cancelled`,
    ///   `deadlineExceeded` when the stream lasts longer than its caller allows.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(GrenacheError) -> [UInt8]? {
      do throws(TransportError) {
        return try await body.next(isolation: actor)
      } catch {
        throw GrenacheError(streaming: error, until: end)
      }
    }
  }

  /// One reader at a time.
  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(body.makeAsyncIterator(), until: end)
  }
}

/// A stream as a service's handler sees it: bytes come and go at the same time.
public struct RPCServerStream: Sendable {
  /// What the caller sends.
  public let incoming: RPCByteStream
  private let writer: HTTPResponseWriter
  private let rid: [UInt8]
  private let replyBytesMax: Int

  init(
    _ incoming: RPCByteStream, _ writer: HTTPResponseWriter, rid: [UInt8], replyBytesMax: Int
  ) {
    self.incoming = incoming
    self.writer = writer
    self.rid = rid
    self.replyBytesMax = replyBytesMax
  }

  /// Sends bytes to the caller; waits while it does not take those before. One writer at a time.
  ///
  /// - Throws: `GrenacheError`: `connectionLost`, `cancelled`.
  public func write(_ bytes: [UInt8]) async throws(GrenacheError) {
    do {
      try await writer.write(bytes)
    } catch {
      throw GrenacheError(streaming: error)
    }
  }

  /// Answers with one JSON value in an envelope, in place of bytes.
  ///
  /// - Throws: `GrenacheError`: `invalidReply` for what is not one JSON value in UTF-8, is larger than the
  ///   server's `replyBytesMax`, or comes when bytes have been sent already.
  public func replyRaw(_ result: [UInt8]) async throws(GrenacheError) {
    guard JSONText.isSendable(result.span) else {
      throw GrenacheError(.invalidReply, "the reply is not one JSON value in UTF-8")
    }
    let body = RPCHTTPResponder.reply(rid, .result(result))
    guard body.count <= replyBytesMax else {
      throw GrenacheError(
        .invalidReply, "the reply has \(body.count) bytes, more than \(replyBytesMax)")
    }
    guard await writer.respond(HTTPServerResponse(.ok, body: body)) else {
      throw GrenacheError(.invalidReply, "an answer in bytes has begun or ended already")
    }
  }

  /// The same with a `Codable` value; `invalidPayload` for one that cannot be encoded.
  public func reply<Output: Encodable>(
    _ result: Output, coding: RPCCoding = RPCCoding()
  ) async throws(GrenacheError) {
    try await replyRaw(try coding.encode(result))
  }

  /// Answers with an error; once bytes have been sent, breaks the connection off instead, so that
  /// they are not taken for the whole.
  func fail(_ message: String) async {
    let isWhole = await writer.respond(
      HTTPServerResponse(
        .ok, fields: [(RPCReplyField.name, RPCReplyField.error)],
        body: RPCHTTPResponder.reply(rid, .fault(RPCFault(message)))))
    if !isWhole { await writer.abort() }
  }
}

/// How an answer that is an error says so: in stream mode it is told by this from one that is bytes, and
/// in each mode the server from one whose errors may mean anything (`docs/wire-extensions.md`).
enum RPCReplyField {
  static let name = "Grenache-Reply"
  static let error = "error"
}

extension GrenacheError {
  /// What went wrong with a stream that was open.
  ///
  /// - Parameter end: when this side breaks it off.
  init(streaming error: TransportError, until end: MonotonicTime? = nil) {
    switch error.code {
    case .connectionClosed where end.map({ $0 <= .now() }) ?? false:
      self.init(.deadlineExceeded, "the stream lasts longer than it may", cause: error)
    case .cancelled:
      self.init(.cancelled, "the stream was cancelled")
    case .timedOut:
      self.init(.deadlineExceeded, "the stream does not move", cause: error)
    default:
      self.init(.connectionLost, "the stream broke", cause: error)
    }
  }
}
