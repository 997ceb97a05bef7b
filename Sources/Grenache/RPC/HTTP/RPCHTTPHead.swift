internal import GrenacheFraming

/// What the fields of an HTTP request say about a call.
struct RPCHTTPHead: Sendable {
  /// The fields that existing peers use.
  static let requestField = "_gr"
  static let actionField = "_a"
  static let argumentsField = "_ar"
  static let compressionField = "grc-compress"

  /// A field that cannot be understood.
  struct Refusal: Error, Hashable {
    /// Byte for byte what existing servers answer, spaces included.
    static let body = "[null, \"ERR_HEADER_PARSE_GR\", null]"
  }

  /// The identifier and key of `_gr`, which override those of the body: JSON and a name.
  var request: (rid: [UInt8], service: String?)?
  var action: String?
  var actionArguments: [UInt8]
  var wantsGzip: Bool
  /// What a caller of this package says beside.
  var context: RPCCallContext
  /// Whether the request is one of stream mode: its body is raw bytes.
  var isStream: Bool

  init(_ fields: HTTPFields) throws(Refusal) {
    if let text = fields[Self.requestField] { request = try Self.request(Array(text.utf8)) }
    action = fields[Self.actionField]
    let arguments = fields[Self.argumentsField].map { Array($0.utf8) } ?? []
    let isJSON = !arguments.isEmpty && JSONScanner.isOneValue(arguments.span)
    actionArguments = isJSON ? arguments : Array("{}".utf8)
    // Existing servers look for the word anywhere in the value.
    wantsGzip = fields[Self.compressionField]?.contains("gzip") ?? false
    context = RPCCallContext(
      timeout: fields[RPCCallContext.timeoutField],
      metadata: fields[RPCCallContext.metadataField])
    isStream = fields["Transfer-Encoding"] == "chunked"
  }

  /// `["<rid>","<key>"]`; `nil` for `null`, which counts as no field at all.
  private static func request(
    _ text: [UInt8]
  ) throws(Refusal) -> (rid: [UInt8], service: String?)? {
    guard JSONScanner.isOneValue(text.span) else { throw Refusal() }
    guard text.span.string().trimmingSpaces().first == "[" else { return nil }
    guard let envelope = RPCRequestEnvelope(text.span, checksUTF8: false) else { return nil }
    return (envelope.rid.bytes(in: text.span), envelope.keyString(in: text.span))
  }
}
