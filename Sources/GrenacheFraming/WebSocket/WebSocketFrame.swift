/// Which end of a connection this is: clients mask, servers do not (RFC 6455 §5.1).
package enum WebSocketRole: Hashable, Sendable {
  case client
  case server
}

/// The kinds of messages.
package enum WebSocketMessageKind: Hashable, Sendable {
  case text
  case binary
}

/// The opcodes of RFC 6455 §5.2.
package enum WebSocketOpcode: UInt8, Hashable, Sendable {
  case continuation = 0x0
  case text = 0x1
  case binary = 0x2
  case close = 0x8
  case ping = 0x9
  case pong = 0xa

  var isControl: Bool { rawValue & 0x8 != 0 }
}

/// The head of a frame (RFC 6455 §5.2).
struct WebSocketFrameHead: Hashable {
  var isFinal: Bool
  var opcode: WebSocketOpcode
  /// RSV1: the first frame of a compressed message (RFC 7692 §6).
  var isCompressed: Bool
  /// The masking key, its first byte lowest; `nil` for an unmasked frame.
  var maskingKey: UInt32?
  var payloadBytes: Int
  /// The length of the head itself.
  var headBytes: Int

  /// Parses the head at `offset`; `nil` while it is incomplete.
  ///
  /// - Parameter deflates: whether permessage-deflate was agreed upon, which gives RSV1 a meaning.
  @inline(__always)
  static func parse(
    _ window: borrowing MutableSpan<UInt8>, at offset: Int, deflates: Bool
  ) throws(WebSocketError) -> WebSocketFrameHead? {
    let available = window.count - offset
    guard available >= 2 else { return nil }
    let first = window[offset]
    let second = window[offset + 1]
    guard first & (deflates ? 0x30 : 0x70) == 0 else {
      throw WebSocketError(.protocolError, "§5.2", "a reserved bit is set")
    }
    guard let opcode = WebSocketOpcode(rawValue: first & 0x0f) else {
      throw WebSocketError(.protocolError, "§5.2", "a reserved opcode")
    }
    let isCompressed = first & 0x40 != 0
    guard !isCompressed || opcode == .text || opcode == .binary else {
      throw WebSocketError(.protocolError, "RFC 7692 §6", "RSV1 on a frame that begins no message")
    }
    let isMasked = second & 0x80 != 0
    let short = Int(second & 0x7f)
    let isFinal = first & 0x80 != 0
    if opcode.isControl, !isFinal || short > 125 {
      throw WebSocketError(.protocolError, "§5.5", "a fragmented or long control frame")
    }
    let lengthBytes = short < 126 ? 0 : short == 126 ? 2 : 8
    let headBytes = 2 + lengthBytes + (isMasked ? 4 : 0)
    guard available >= headBytes else { return nil }
    let length =
      lengthBytes == 0 ? short : try extendedLength(window, at: offset + 2, lengthBytes)
    var key: UInt32?
    if isMasked {
      let start = offset + 2 + lengthBytes
      key =
        UInt32(window[start]) | UInt32(window[start + 1]) << 8 | UInt32(window[start + 2]) << 16
        | UInt32(window[start + 3]) << 24
    }
    return WebSocketFrameHead(
      isFinal: isFinal, opcode: opcode, isCompressed: isCompressed, maskingKey: key,
      payloadBytes: length, headBytes: headBytes)
  }

  private static func extendedLength(
    _ window: borrowing MutableSpan<UInt8>, at start: Int, _ lengthBytes: Int
  ) throws(WebSocketError) -> Int {
    var length: UInt64 = 0
    for index in start..<(start + lengthBytes) { length = length << 8 | UInt64(window[index]) }
    guard length >> 63 == 0, length >= (lengthBytes == 2 ? 126 : 65_536) else {
      throw WebSocketError(.protocolError, "§5.2", "a length that is not minimal")
    }
    return Int(length)
  }
}
