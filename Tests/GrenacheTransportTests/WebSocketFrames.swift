/// The bytes of a client's frame, masked with a key of zeros.
func clientFrame(_ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true) -> [UInt8] {
  var bytes: [UInt8] = [(isFinal ? 0x80 : 0) | opcode]
  if payload.count < 126 {
    bytes.append(0x80 | UInt8(payload.count))
  } else if payload.count < 65_536 {
    bytes += [0xfe, UInt8(payload.count >> 8), UInt8(payload.count & 0xff)]
  } else {
    bytes.append(0xff)
    bytes += (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
  }
  return bytes + [0, 0, 0, 0] + payload
}

/// A client's opening handshake (RFC 6455 §1.2).
let webSocketUpgrade = """
  GET /ws HTTP/1.1\r
  Host: x\r
  Upgrade: websocket\r
  Connection: Upgrade\r
  Sec-WebSocket-Version: 13\r
  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
  \r

  """
