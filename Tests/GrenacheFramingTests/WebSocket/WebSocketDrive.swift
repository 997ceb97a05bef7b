@testable import GrenacheFraming

/// What a reader said about some input.
enum WebSocketEvent: Hashable {
  case message(WebSocketMessageKind, [UInt8])
  case ping([UInt8])
  case pong([UInt8])
  case close(UInt16?, String)
  case error(UInt16)
}

/// Feeds `input` in pieces that end at `cuts`, as the transport does.
func readFrames(
  _ input: [UInt8], role: WebSocketRole, cuts: [Int] = [],
  limits: WebSocketLimits = WebSocketLimits(), deflate: DeflateSetting? = nil
) -> [WebSocketEvent] {
  var reader = WebSocketReader(role: role, limits: limits, inflater: deflate?.inflater(role))
  var events: [WebSocketEvent] = []
  var window: [UInt8] = []
  var start = 0
  for end in cuts.sorted() + [input.count] {
    window += input[start..<end]
    start = end
    var offset = 0
    do throws(WebSocketError) {
      var span = window.mutableSpan
      while let event = try next(&reader, &span, &offset) { events.append(event) }
    } catch {
      return events + [.error(error.closeCode.rawValue)]
    }
    window.removeFirst(offset)
  }
  return events
}

private func next(
  _ reader: inout WebSocketReader, _ window: inout MutableSpan<UInt8>, _ offset: inout Int
) throws(WebSocketError) -> WebSocketEvent? {
  switch try reader.next(&window, from: &offset) {
  case .message(let kind, let range): .message(kind, window.span.extracting(range).copy())
  case .assembledMessage(let kind): .message(kind, reader.takeMessage())
  case .ping(let range): .ping(window.span.extracting(range).copy())
  case .pong(let range): .pong(window.span.extracting(range).copy())
  case .close(let code, let reason):
    .close(code?.rawValue, window.span.extracting(reason).string())
  case .needBytes: nil
  }
}

/// What two ends have agreed upon, for the tests of RFC 7692.
struct DeflateSetting {
  var agreement = WebSocketDeflateAgreement()
  var options = WebSocketDeflate(keepsContext: true, messageBytesMin: 0)

  func inflater(_ role: WebSocketRole) -> MessageInflater {
    MessageInflater(agreement, role: role, options: options, pool: ZlibPool())
  }

  func deflater(_ role: WebSocketRole) -> MessageDeflater {
    MessageDeflater(agreement, role: role, options: options, pool: ZlibPool())
  }

  /// Every message of `payloads` as the peer of `reader` would send it, in fragments of at most
  /// `fragmentBytes`, with a ping in between.
  func frames(
    _ payloads: [[UInt8]], _ opcode: WebSocketOpcode = .binary, to reader: WebSocketRole,
    fragmentBytes: Int = .max
  ) -> [UInt8] {
    let deflater = deflater(reader == .server ? .client : .server)
    var output: [UInt8] = []
    for payload in payloads {
      var deflated: [UInt8] = []
      let isCompressed = deflater.deflate(payload.span, to: &deflated)
      var left = (isCompressed ? deflated : payload)[...]
      var isFirst = true
      repeat {
        let part = Array(left.prefix(fragmentBytes))
        left = left.dropFirst(fragmentBytes)
        output.appendWebSocketFrame(
          isFirst ? opcode : .continuation, part.span,
          maskingKey: reader == .server ? 0x8765_4321 : nil, isFinal: left.isEmpty,
          isCompressed: isCompressed && isFirst)
        if !left.isEmpty { output += frame(.ping, [], to: reader) }
        isFirst = false
      } while !left.isEmpty
    }
    return output
  }
}

/// One frame as the peer of `reader` would send it: masked by a client.
func frame(
  _ opcode: WebSocketOpcode, _ payload: [UInt8], to reader: WebSocketRole, isFinal: Bool = true,
  isCompressed: Bool = false
) -> [UInt8] {
  var output: [UInt8] = []
  output.appendWebSocketFrame(
    opcode, payload.span, maskingKey: reader == .server ? 0x1234_5678 : nil, isFinal: isFinal,
    isCompressed: isCompressed)
  return output
}
