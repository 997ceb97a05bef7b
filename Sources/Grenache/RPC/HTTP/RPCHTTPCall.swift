internal import GrenacheFraming

/// A call as an HTTP request brings it: fields, and the envelope as its body.
struct RPCHTTPCall: Sendable {
  /// A request that is no call, and what it is answered with.
  struct Refusal: Error, Hashable {
    var status: HTTPStatus
    var message: String
  }

  /// JSON of any kind, to be echoed as it is.
  var rid: [UInt8]
  /// `nil` when the key is no text.
  var service: String?
  /// One JSON value.
  var payload: [UInt8]

  /// - Parameter bodyBytesMax: what a compressed body may grow to.
  init(_ head: RPCHTTPHead, body: [UInt8], bodyBytesMax: Int) throws(Refusal) {
    let text = try Self.inflated(body, head, bodyBytesMax)
    guard let envelope = RPCRequestEnvelope(text.span, checksUTF8: true) else {
      throw Refusal(status: .badRequest, message: "the body is no call: [\"rid\",\"key\",payload]")
    }
    rid = head.request?.rid ?? envelope.rid.bytes(in: text.span)
    service = head.request.map(\.service) ?? envelope.keyString(in: text.span)
    payload = envelope.payload.bytes(in: text.span)
  }

  /// The body as text. What was said to be compressed and is not is taken as it is.
  private static func inflated(
    _ body: [UInt8], _ head: RPCHTTPHead, _ bytesMax: Int
  ) throws(Refusal) -> [UInt8] {
    guard head.wantsGzip, Self.isGzip(body) else { return body }
    do {
      return try Gzip.decode(body.span, limits: InflateLimits(outputBytesMax: bytesMax))
    } catch {
      throw Refusal(status: HTTPStatus(code: error.statusHint), message: error.message)
    }
  }

  /// Whether the bytes begin as gzip does (RFC 1952 §2.3.1), which no JSON does.
  static func isGzip(_ bytes: [UInt8]) -> Bool {
    bytes.count >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b
  }
}
