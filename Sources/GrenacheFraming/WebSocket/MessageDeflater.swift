internal import CZlib

/// Deflates the payloads of messages (RFC 7692 §7.2.1).
///
/// It holds a stream of zlib only for as long as the context is kept.
package final class MessageDeflater {
  private let windowBits: Int
  private let keepsContext: Bool
  private let options: WebSocketDeflate
  private let pool: ZlibPool
  private var stream: ZlibStream?

  /// For what `role` sends.
  package init(
    _ agreement: WebSocketDeflateAgreement, role: WebSocketRole, options: WebSocketDeflate,
    pool: ZlibPool
  ) {
    let isServer = role == .server
    windowBits = isServer ? agreement.serverMaxWindowBits : agreement.clientMaxWindowBits
    keepsContext =
      !(isServer ? agreement.serverNoContextTakeover : agreement.clientNoContextTakeover)
    self.options = options
    self.pool = pool
  }

  /// Appends a message in one frame, compressed if that makes it smaller.
  package func appendMessage(
    _ opcode: WebSocketOpcode, _ payload: Span<UInt8>, maskingKey: UInt32?,
    to output: inout [UInt8]
  ) {
    var deflated = pool.takeScratch()
    if deflate(payload, to: &deflated) {
      output.appendWebSocketFrame(
        opcode, deflated.span, maskingKey: maskingKey, isCompressed: true)
    } else {
      output.appendWebSocketFrame(opcode, payload, maskingKey: maskingKey)
    }
    pool.giveBackScratch(deflated)
  }

  /// Whether a message of that size is worth it.
  package func wants(_ payloadBytes: Int) -> Bool {
    payloadBytes >= max(options.messageBytesMin, 1)
  }

  /// Appends the payload, deflated, to `output`.
  ///
  /// - Returns: `false` when the message should go as it is: it became no smaller, or there is no memory.
  func deflate(_ payload: Span<UInt8>, to output: inout [UInt8]) -> Bool {
    // zlib flushes nothing twice.
    guard !payload.isEmpty, var stream = takeStream() else { return false }
    let start = output.count
    stream.deflateAll(payload, into: &output, flush: .sync)
    // A flush ends with an empty stored block, which stays unsent.
    output.removeLast(min(output.count - start, 4))
    if keepsContext {
      // The peer has to see what later messages may refer to.
      self.stream = consume stream
      return true
    }
    pool.giveBackDeflater(stream, level: options.level, windowBits: windowBits)
    return output.count - start < payload.count
  }

  private func takeStream() -> ZlibStream? {
    if let stream = stream.take() { return stream }
    return try? pool.takeDeflater(level: options.level, windowBits: windowBits)
  }
}
