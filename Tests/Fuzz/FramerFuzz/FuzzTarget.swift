import Glibc

/// What one run of the fuzzer feeds; chosen by the environment variable `FUZZ_TARGET`.
///
/// A target fails by a trap, by what the sanitizer sees, or by `require`: mostly that it makes no
/// difference how the input is cut.
enum FuzzTarget: String {
  case httpRequest = "http-request"
  case httpResponse = "http-response"
  case chunked
  case websocket
  case deflate
  case gzip
  case envelope
  case krpc
  case certificate
  case policy

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
    case .certificate: fuzzCertificate(input)
    case .policy: fuzzPolicy(input)
    }
  }

  static let chosen: FuzzTarget = {
    let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = FuzzTarget(rawValue: name) else {
      complain("FUZZ_TARGET names no target: \"\(name)\"")
      exit(2)
    }
    return target
  }()
}

/// The first two bytes say how a target runs and where the rest is cut; so a text file is a seed, too.
struct FuzzInput {
  let mode: UInt8
  let bytes: [UInt8]
  let cut: Int

  init(_ data: UnsafeBufferPointer<UInt8>) {
    mode = data.count > 0 ? data[0] : 0
    bytes = Array(data.dropFirst(2))
    cut = data.count > 1 && !bytes.isEmpty ? Int(data[1]) * bytes.count / 256 : 0
  }
}

/// Ends the run as a finding.
func require(_ condition: Bool, _ message: String) {
  if !condition {
    complain("fuzz: \(message)")
    abort()
  }
}

private func complain(_ message: String) {
  let line = Array("\(message)\n".utf8)
  _ = write(STDERR_FILENO, line, line.count)
}

/// libFuzzer's entry.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  FuzzTarget.chosen.run(FuzzInput(UnsafeBufferPointer(start: data, count: count)))
  return 0
}
