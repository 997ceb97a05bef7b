/// Writing frames (RFC 6455 §5.2). A `maskingKey` is what a client passes and a server does not.
extension [UInt8] {
  /// The head of a final frame; a compressed one has RSV1 set (RFC 7692 §6).
  @inline(__always)
  package mutating func appendWebSocketFrameHead(
    _ opcode: WebSocketOpcode, payloadBytes: Int, maskingKey: UInt32?, isFinal: Bool = true,
    isCompressed: Bool = false
  ) {
    append((isFinal ? 0x80 : 0) | (isCompressed ? 0x40 : 0) | opcode.rawValue)
    let mask: UInt8 = maskingKey == nil ? 0 : 0x80
    if payloadBytes < 126 {
      append(mask | UInt8(truncatingIfNeeded: payloadBytes))
    } else if payloadBytes < 65_536 {
      append(mask | 126)
      append(UInt8(truncatingIfNeeded: payloadBytes >> 8))
      append(UInt8(truncatingIfNeeded: payloadBytes))
    } else {
      append(mask | 127)
      for shift in stride(from: 56, through: 0, by: -8) {
        append(UInt8(truncatingIfNeeded: payloadBytes >> shift))
      }
    }
    if let maskingKey {
      for shift in stride(from: 0, through: 24, by: 8) {
        append(UInt8(truncatingIfNeeded: maskingKey >> UInt32(shift)))
      }
    }
  }

  /// A whole final frame.
  @inline(__always)
  package mutating func appendWebSocketFrame(
    _ opcode: WebSocketOpcode, _ payload: Span<UInt8>, maskingKey: UInt32?, isFinal: Bool = true,
    isCompressed: Bool = false
  ) {
    appendWebSocketFrameHead(
      opcode, payloadBytes: payload.count, maskingKey: maskingKey, isFinal: isFinal,
      isCompressed: isCompressed)
    let start = count
    payload.append(to: &self)
    if let maskingKey { maskWebSocketPayload(from: start, key: maskingKey) }
  }

  /// Masks what has been appended since `start`.
  package mutating func maskWebSocketPayload(from start: Int, key: UInt32) {
    let range = start..<count
    var span = mutableSpan
    WebSocketMask.apply(key, to: &span, in: range)
  }

  /// A close frame; the reason is cut, between characters, to the 123 bytes that fit.
  package mutating func appendWebSocketClose(
    _ code: WebSocketCloseCode?, reason: String, maskingKey: UInt32?
  ) {
    var payload: [UInt8] = []
    if let code {
      payload.append(UInt8(truncatingIfNeeded: code.rawValue >> 8))
      payload.append(UInt8(truncatingIfNeeded: code.rawValue))
      for scalar in reason.unicodeScalars {
        let encoded = UTF8.encode(scalar)
        guard let encoded, payload.count + encoded.count <= 125 else { break }
        payload.append(contentsOf: encoded)
      }
    }
    appendWebSocketFrame(.close, payload.span, maskingKey: maskingKey)
  }
}
