/// What one input is fed to.
///
/// A target fails by a trap, by what the sanitizer sees, or by `require`: mostly that it makes no
/// difference how the input is cut.
enum FuzzTarget: String, CaseIterable {
  case httpRequest = "http-request"
  case httpResponse = "http-response"
  case chunked
  case websocket
  case deflate
  case gzip
  case envelope
  case krpc
  case bencode
  case certificate
  case policy
  case pubsub
  case context
  case grapeRequest = "grape-request"
  case grapeAnswer = "grape-answer"

  func run(_ input: FuzzInput) {
    switch self {
    case .httpRequest: fuzzHTTPRequest(input)
    case .httpResponse: fuzzHTTPResponse(input)
    case .chunked: fuzzChunked(input)
    case .websocket: fuzzWebSocket(input, compressed: false)
    case .deflate: fuzzWebSocket(input, compressed: true)
    case .gzip: fuzzGzip(input)
    case .envelope: fuzzEnvelope(input)
    case .krpc: fuzzKRPC(input)
    case .bencode: fuzzBencode(input)
    case .certificate: fuzzCertificate(input)
    case .policy: fuzzPolicy(input)
    case .pubsub: fuzzPubSub(input)
    case .context: fuzzContext(input)
    case .grapeRequest: fuzzGrapeRequest(input)
    case .grapeAnswer: fuzzGrapeAnswer(input)
    }
  }
}

/// The first two bytes say how a target runs and where the rest is cut; so a text file is a seed, too.
struct FuzzInput {
  let mode: UInt8
  let bytes: [UInt8]
  let cut: Int

  init(_ data: [UInt8]) {
    mode = data.count > 0 ? data[0] : 0
    bytes = Array(data.dropFirst(2))
    cut = data.count > 1 && !bytes.isEmpty ? Int(data[1]) * bytes.count / 256 : 0
  }
}
