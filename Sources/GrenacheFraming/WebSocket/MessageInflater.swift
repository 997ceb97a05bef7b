internal import CZlib

/// Inflates the payloads of messages (RFC 7692 §7.2.2) as their frames come.
///
/// It holds a stream of zlib only while a message is under way, or for as long as the context is kept.
package final class MessageInflater {
  private let windowBits: Int
  private let keepsContext: Bool
  private let ratioMax: Int
  private let pool: ZlibPool
  private var stream: ZlibStream?
  private var budget = InflateBudget(InflateLimits(outputBytesMax: 0))

  /// What a sender leaves out behind each message, an empty stored block.
  private static let tail: [UInt8] = [0x00, 0x00, 0xff, 0xff]

  /// For what the peer of `role` sends.
  package init(
    _ agreement: WebSocketDeflateAgreement, role: WebSocketRole, options: WebSocketDeflate,
    pool: ZlibPool
  ) {
    let isServer = role == .server
    windowBits = isServer ? agreement.clientMaxWindowBits : agreement.serverMaxWindowBits
    keepsContext =
      !(isServer ? agreement.clientNoContextTakeover : agreement.serverNoContextTakeover)
    ratioMax = options.ratioMax
    self.pool = pool
  }

  /// Begins a message of at most `bytesMax` bytes.
  func begin(bytesMax: Int) throws(WebSocketError) {
    budget = InflateBudget(InflateLimits(outputBytesMax: bytesMax, ratioMax: ratioMax))
    guard stream == nil else { return }
    do throws(CompressionError) {
      stream = try pool.takeInflater(windowBits: windowBits)
    } catch {
      throw WebSocketError(error)
    }
  }

  /// Appends what `range` of `bytes` holds.
  func append(
    _ bytes: Span<UInt8>, _ range: Range<Int>, to output: inout [UInt8]
  ) throws(WebSocketError) {
    guard var stream = stream.take() else { return }
    do throws(CompressionError) {
      _ = try inflate(&stream, bytes, range, &output)
    } catch {
      throw WebSocketError(error)
    }
    self.stream = consume stream
  }

  /// The message is over: appends what is left of it.
  func finish(to output: inout [UInt8]) throws(WebSocketError) {
    guard var stream = stream.take() else { return }
    let isWhole: Bool
    do throws(CompressionError) {
      isWhole = try inflate(&stream, Self.tail.span, 0..<Self.tail.count, &output)
    } catch {
      throw WebSocketError(error)
    }
    guard isWhole else {
      throw WebSocketError(.invalidPayload, "a message that ends within a block of deflate")
    }
    if keepsContext {
      self.stream = consume stream
    } else {
      pool.giveBackInflater(stream, windowBits: windowBits)
    }
  }

  /// Returns whether all of the input ends where a block does.
  private func inflate(
    _ stream: inout ZlibStream, _ bytes: Span<UInt8>, _ range: Range<Int>,
    _ output: inout [UInt8]
  ) throws(CompressionError) -> Bool {
    var start = range.lowerBound
    var isNew = false
    while true {
      let room = min(budget.stepBytesMax, inflateStepBytes(for: range.upperBound - start))
      let step = stream.inflate(bytes, start..<range.upperBound, into: &output, room: room)
      start += step.consumed
      if step.consumed > 0 { isNew = false }
      try budget.note(consumed: step.consumed, produced: step.produced)
      switch step.status {
      case .progress:
        // Room that is left over means that nothing waits inside.
        if start == range.upperBound, step.produced < room { return stream.isBetweenBlocks }
      case .stalled:
        return start == range.upperBound && stream.isBetweenBlocks
      case .end:
        // A final block ends a stream, not the message (§7.2.3.4).
        // (One that ends without a byte had them all taken in by the step before.)
        guard step.consumed > 0 || !isNew else {
          throw CompressionError(.invalid, "an empty stream")
        }
        stream.reset()
        isNew = true
        if start == range.upperBound { return true }
      case .memory:
        throw .outOfMemory
      case .invalid:
        throw CompressionError(.invalid, "not deflate, or damaged")
      }
    }
  }
}

extension WebSocketError {
  init(_ error: CompressionError) {
    if error.code == .tooLarge {
      self.init(.messageTooBig, "RFC 7692 §8.1", error.message)
    } else if error.code == .outOfMemory {
      self.init(.internalError, "§7.4.1", error.message)
    } else {
      self.init(.invalidPayload, "RFC 7692 §7.2.2", error.message)
    }
  }

  fileprivate init(_ closeCode: WebSocketCloseCode, _ message: String) {
    self.init(closeCode, "RFC 7692 §7.2.2", message)
  }
}
