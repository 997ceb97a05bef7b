import ConformanceCases

@testable import GrenacheFraming

/// Feeds `input` in pieces that end at `cuts`, as the transport does.
func readFrames(
  _ input: [UInt8], role: WebSocketRole, cuts: [Int] = [],
  limits: WebSocketLimits = WebSocketLimits(), deflate: DeflateSetting? = nil
) -> [WebSocketEvent] {
  WebSocketEvent.reading(
    input, role: role, cuts: cuts, limits: limits, inflater: deflate?.inflater(role))
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
