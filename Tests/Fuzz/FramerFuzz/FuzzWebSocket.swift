@testable import GrenacheFraming

/// Frames as they come; with `compressed`, on connections that have agreed upon permessage-deflate, and
/// payloads that need no framing of their own to get to the inflater.
func fuzzWebSocket(_ input: FuzzInput, compressed: Bool) {
  let role = input.mode & 1 == 0 ? WebSocketRole.client : .server
  var bytes = input.bytes
  if compressed, input.mode & 2 == 0 { bytes = frames(bytes, to: role) }
  let cut = input.cut * bytes.count / max(input.bytes.count, 1)
  func read(_ cut: Int) -> EventLog {
    var reader = WebSocketReader(
      role: role, limits: limits, inflater: compressed ? inflater(input.mode, role) : nil)
    var log = EventLog()
    drive(&reader, bytes, cut, &log)
    return log
  }
  require(read(0) == read(cut), "a cut at \(cut) makes a difference")
}

func fuzzGzip(_ input: FuzzInput) {
  func decode(_ cut: Int) -> (CompressionError.Code?, [UInt8]) {
    var output: [UInt8] = []
    do throws(CompressionError) {
      var decoder = try GzipDecoder(limits: InflateLimits(outputBytesMax: 100_000))
      try decoder.decode(input.bytes.span.extracting(0..<cut), into: &output)
      try decoder.decode(input.bytes.span.extracting(cut..<input.bytes.count), into: &output)
      try decoder.finish()
      return (nil, output)
    } catch {
      return (error.code, [])
    }
  }
  let whole = decode(0)
  let parts = decode(input.cut)
  require(whole.1.count <= 100_000, "more than the limit")
  require(whole.0 == parts.0 && whole.1 == parts.1, "a cut at \(input.cut) makes a difference")
}

private let limits = WebSocketLimits(messageBytesMax: 70_000, fragmentsMax: 8)

private func inflater(_ mode: UInt8, _ role: WebSocketRole) -> MessageInflater {
  var agreement = WebSocketDeflateAgreement()
  agreement.serverNoContextTakeover = mode & 4 != 0
  agreement.clientNoContextTakeover = mode & 4 != 0
  agreement.serverMaxWindowBits = 8 + Int(mode >> 4 & 7)
  agreement.clientMaxWindowBits = agreement.serverMaxWindowBits
  return MessageInflater(agreement, role: role, options: WebSocketDeflate(), pool: ZlibPool())
}

/// Two compressed messages whose payloads are the halves of `payload`.
private func frames(_ payload: [UInt8], to role: WebSocketRole) -> [UInt8] {
  var output: [UInt8] = []
  let middle = payload.count / 2
  for part in [payload[..<middle], payload[middle...]] {
    output.appendWebSocketFrame(
      .binary, Array(part).span, maskingKey: role == .server ? 0x0304_0501 : nil,
      isCompressed: true)
  }
  return output
}

private func drive(
  _ reader: inout WebSocketReader, _ bytes: [UInt8], _ cut: Int, _ log: inout EventLog
) {
  var window: [UInt8] = []
  for piece in [bytes[..<cut], bytes[cut...]] {
    window += piece
    var offset = 0
    do throws(WebSocketError) {
      var span = window.mutableSpan
      while try step(&reader, &span, &offset, &log) {}
    } catch {
      return log.note("!", [UInt8(truncatingIfNeeded: error.closeCode.rawValue)])
    }
    require(offset <= window.count, "consumed more than there was")
    window.removeFirst(offset)
  }
}

private func step(
  _ reader: inout WebSocketReader, _ window: inout MutableSpan<UInt8>, _ offset: inout Int,
  _ log: inout EventLog
) throws(WebSocketError) -> Bool {
  switch try reader.next(&window, from: &offset) {
  case .message(let kind, let range):
    noteMessage(kind, window.span.extracting(range).copy(), &log)
  case .assembledMessage(let kind):
    noteMessage(kind, reader.takeMessage(), &log)
  case .ping(let range): log.note("p", window.span.extracting(range).copy())
  case .pong(let range): log.note("o", window.span.extracting(range).copy())
  case .close(let code, let reason):
    log.note("c", Array("\(code?.rawValue ?? 0)".utf8) + window.span.extracting(reason).copy())
  case .needBytes: return false
  }
  return true
}

private func noteMessage(
  _ kind: WebSocketMessageKind, _ payload: [UInt8], _ log: inout EventLog
) {
  require(payload.count <= limits.messageBytesMax, "a message over its limit")
  if kind == .text {
    require(String(validating: payload, as: UTF8.self) != nil, "text that is not UTF-8")
  }
  log.note(kind == .text ? "m" : "b", payload)
}
