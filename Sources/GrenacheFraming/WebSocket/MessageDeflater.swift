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
  /// - Returns: `false` when the message should go as it is: it became no smaller, or so small that a
  ///   peer like this one would take it for a bomb, or there is no memory.
  func deflate(_ payload: Span<UInt8>, to output: inout [UInt8]) -> Bool {
    // zlib flushes nothing twice.
    guard !payload.isEmpty, var stream = takeStream() else { return false }
    let start = output.count
    let isPlausible = deflatePieces(&stream, payload, to: &output)
    // A flush ends with an empty stored block, which stays unsent.
    output.removeLast(min(output.count - start, 4))
    if keepsContext {
      // Later messages may refer to this one, so the peer has to see it; or this side forgets it.
      if !isPlausible { stream.reset() }
      self.stream = consume stream
      return isPlausible
    }
    pool.giveBackDeflater(stream, level: options.level, windowBits: windowBits)
    return output.count - start < payload.count && isPlausible
  }

  /// Flushes wherever a peer like this one looks at the ratio, so that what it will see is known here.
  ///
  /// - Returns: `false`, at once, where it would find too much.
  private func deflatePieces(
    _ stream: inout ZlibStream, _ payload: Span<UInt8>, to output: inout [UInt8]
  ) -> Bool {
    let limits = InflateLimits(outputBytesMax: .max, ratioMax: options.ratioMax)
    let before = output.count
    var start = 0
    while start < payload.count {
      let end = min(start + limits.ratioCheckBytes, payload.count)
      stream.deflateAll(payload.extracting(start..<end), into: &output, flush: .sync)
      start = end
      // The peer may look before the last bytes of a flush.
      let seen = output.count - before - Self.flushBytes
      guard limits.isPlausible(consumed: seen, produced: end) else { return false }
    }
    return true
  }

  private static let flushBytes = 8

  private func takeStream() -> ZlibStream? {
    if let stream = stream.take() { return stream }
    return try? pool.takeDeflater(level: options.level, windowBits: windowBits)
  }
}
