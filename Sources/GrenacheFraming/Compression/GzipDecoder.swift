internal import CZlib

/// Takes gzip (RFC 1952) apart as it comes, within limits.
///
/// One member is one stream: what follows it is refused, since no peer of ours sends several.
package struct GzipDecoder: ~Copyable {
  /// Where decoding stands after a call.
  package enum Progress: Hashable, Sendable {
    /// All input is consumed; more is needed.
    case needsInput
    /// The room is used up: call again, with what is left of the input or with none.
    case outputFull
    /// The stream is over, and its checksum right.
    case ended
  }

  private enum State { case fresh, open, ended }

  private var stream: ZlibStream
  private var budget: InflateBudget
  private var state = State.fresh

  /// A decoder of one stream. It holds about 40 KiB.
  package init(limits: InflateLimits) throws(CompressionError) {
    stream = try ZlibStream.inflater(.gzip)
    budget = InflateBudget(limits)
  }

  /// Appends to `output` what `input` holds from `offset` on, `room` bytes at the most, and moves
  /// `offset` past what it has consumed.
  ///
  /// - Throws: `CompressionError`; nothing more can be decoded then.
  package mutating func decode(
    _ input: Span<UInt8>, from offset: inout Int, into output: inout [UInt8], room: Int = .max
  ) throws(CompressionError) -> Progress {
    var left = room
    while state != .ended {
      guard left > 0 else { return .outputFull }
      let count = input.count - offset
      let piece = min(left, budget.stepBytesMax, inflateStepBytes(for: count))
      let step = stream.inflate(input, offset..<input.count, into: &output, room: piece)
      offset += step.consumed
      left -= step.produced
      if step.consumed > 0 { state = .open }
      try budget.note(consumed: step.consumed, produced: step.produced)
      switch step.status {
      case .progress: continue
      case .stalled: return .needsInput
      case .end: state = .ended
      case .memory: throw .outOfMemory
      case .invalid: throw CompressionError(.invalid, "not gzip, or damaged")
      }
    }
    guard offset == input.count else {
      throw CompressionError(.trailingBytes, "something follows the gzip stream")
    }
    return .ended
  }

  /// Appends everything that `input` holds.
  package mutating func decode(
    _ input: Span<UInt8>, into output: inout [UInt8]
  ) throws(CompressionError) {
    var offset = 0
    _ = try decode(input, from: &offset, into: &output)
  }

  /// Says that no more input comes.
  ///
  /// - Throws: `CompressionError` with `truncated` in the middle of a stream, and before one.
  package func finish() throws(CompressionError) {
    guard state == .ended else {
      throw CompressionError(.truncated, "the gzip stream ends in the middle")
    }
  }
}

/// How much room a step gets that inflates `count` bytes: little for little, and pieces for much.
func inflateStepBytes(for count: Int) -> Int {
  min(max(count &* 4, 512), 64 << 10)
}
