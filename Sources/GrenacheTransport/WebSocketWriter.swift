internal import GrenacheFraming
internal import GrenacheIO

/// Writes what one side of a connection sends: masked if it is the client (RFC 6455 §5.3), messages
/// compressed if that was agreed upon (RFC 7692).
struct WebSocketWriter {
  let masks: MaskingKeys?
  let deflater: MessageDeflater?

  /// Whether a message of that size is compressed.
  func deflates(_ payloadBytes: Int) -> Bool { deflater?.wants(payloadBytes) == true }

  /// Appends one message in one frame.
  func append(_ kind: WebSocketMessageKind, _ payload: Span<UInt8>, to output: inout [UInt8]) {
    if let deflater, deflater.wants(payload.count) {
      deflater.appendMessage(kind.opcode, payload, maskingKey: masks?.next(), to: &output)
    } else {
      appendFrame(kind.opcode, payload, to: &output)
    }
  }

  /// Appends one message, not compressed, whose payload of `payloadBytes` exactly `write` appends itself.
  func append(
    _ kind: WebSocketMessageKind, payloadBytes: Int, to output: inout [UInt8],
    write: (inout [UInt8]) -> Void
  ) {
    let key = masks?.next()
    output.appendWebSocketFrameHead(kind.opcode, payloadBytes: payloadBytes, maskingKey: key)
    let start = output.count
    write(&output)
    if let key { output.maskWebSocketPayload(from: start, key: key) }
  }

  /// Appends one frame.
  @inline(__always)
  func appendFrame(_ opcode: WebSocketOpcode, _ payload: Span<UInt8>, to output: inout [UInt8]) {
    output.appendWebSocketFrame(opcode, payload, maskingKey: masks?.next())
  }

  /// Appends a close frame.
  func appendClose(_ code: WebSocketCloseCode?, reason: String, to output: inout [UInt8]) {
    output.appendWebSocketClose(code, reason: reason, maskingKey: masks?.next())
  }
}

extension WebSocketMessageKind {
  fileprivate var opcode: WebSocketOpcode { self == .text ? .text : .binary }
}

extension WebSocketAgreement {
  /// What reads and what writes the frames of a connection, as was agreed.
  func coders(
    for role: WebSocketRole, limits: WebSocketLimits, options: WebSocketOptions,
    on loop: isolated EventLoop
  ) -> (reader: WebSocketReader, writer: WebSocketWriter) {
    let masks = role == .client ? MaskingKeys.of(loop) : nil
    guard let agreed = deflate, let deflate = options.deflate else {
      let reader = WebSocketReader(role: role, limits: limits)
      return (reader, WebSocketWriter(masks: masks, deflater: nil))
    }
    let pool = loop.core.local(ZlibPool.self) { ZlibPool() }
    let deflater = MessageDeflater(agreed, role: role, options: deflate, pool: pool)
    let inflater = MessageInflater(agreed, role: role, options: deflate, pool: pool)
    let reader = WebSocketReader(role: role, limits: limits, inflater: inflater)
    return (reader, WebSocketWriter(masks: masks, deflater: deflater))
  }
}
