/// Back-pressure of a stream: from when to when too much of its output waits, and what its user is to be
/// told once it has gone.
///
///     low → high (a flush has left more than the high-water mark) → low (no more than the low-water mark)
struct OutputPressure {
  /// What a flush has changed.
  enum Change: Hashable {
    case none
    /// Too much waits from now on.
    case rose
    /// More is welcome again, which the user is to be told; not `fromHigh` when too much waited only
    /// until it was flushed.
    case fell(fromHigh: Bool)
  }

  /// Whether too much waits.
  private(set) var isHigh = false
  /// Whether somebody may have seen that the output is full.
  private var owesDrained = false
  /// Whether the user is to hear when nothing waits any more.
  private var owesEmptied = false

  /// The user wants to hear, once, when nothing waits any more.
  mutating func tellWhenEmpty() {
    owesEmptied = true
  }

  /// Output was appended; `waiting` bytes wait now.
  mutating func appended(waiting: Int, limits: ByteStreamLimits) {
    if waiting > limits.outputHighWaterBytes { owesDrained = true }
  }

  /// A flush has sent everything.
  ///
  /// - Returns: whether the user wanted to hear of it.
  mutating func emptied() -> Bool {
    defer { owesEmptied = false }
    return owesEmptied
  }

  /// A flush has left `waiting` bytes.
  mutating func flushed(waiting: Int, limits: ByteStreamLimits) -> Change {
    if waiting > limits.outputHighWaterBytes {
      owesDrained = true
      guard !isHigh else { return .none }
      isHigh = true
      return .rose
    }
    guard waiting <= limits.outputLowWaterBytes, owesDrained else { return .none }
    owesDrained = false
    defer { isHigh = false }
    return .fell(fromHigh: isHigh)
  }

  /// The stream takes no more output: what waits holds up nothing any more.
  mutating func release() {
    isHigh = false
  }
}
