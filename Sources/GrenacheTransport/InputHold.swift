internal import GrenacheFraming

/// The input of a stream that its user does not take yet: the user has paused, has left a part, or is
/// held up by its own output.
///
/// Nothing is lost or overtaken: what was left comes before all that follows it, and the end last.
struct InputHold {
  /// What was received and has not been taken.
  private(set) var leftover: [UInt8] = []
  /// Whether the user wants nothing for now.
  private(set) var isPaused = false
  /// Whether the peer has closed its direction.
  private(set) var hasEnded = false
  /// Whether the user is being handed input.
  private(set) var isInPass = false
  /// Whether what is held is to be handed over at the end of a turn, without anything new.
  private(set) var wantsRedelivery = false

  /// Whether more is to be read, for all that input knows.
  var wantsMore: Bool { !isPaused && !hasEnded }

  /// Whether the user is to be told that the input has ended: all of it has been offered.
  var tellsEnd: Bool { hasEnded && !wantsRedelivery && !isPaused }

  mutating func pause() {
    isPaused = true
  }

  /// - Returns: whether it was paused.
  mutating func resume() -> Bool {
    defer { isPaused = false }
    return isPaused
  }

  /// Has what is held handed over again.
  ///
  /// - Returns: whether there may be something.
  mutating func askAgain() -> Bool {
    // Within a pass nobody knows yet what it will leave.
    guard isInPass || !leftover.isEmpty || hasEnded else { return false }
    wantsRedelivery = true
    return true
  }

  mutating func beginRedelivery() {
    wantsRedelivery = false
  }

  /// Begins to hand over what was held and has come.
  ///
  /// - Returns: `false` when it is to be kept for now.
  mutating func beginPass(isHeldByOutput: Bool) -> Bool {
    guard !isPaused, !isHeldByOutput else {
      wantsRedelivery = !isPaused
      return false
    }
    isInPass = true
    return true
  }

  mutating func endPass() {
    isInPass = false
  }

  /// Keeps what has not been taken, in place of what was held.
  mutating func keep(_ rest: Span<UInt8>) {
    if !rest.isEmpty {
      leftover = rest.copy()
    } else if !leftover.isEmpty {
      leftover = []
    }
  }

  /// What the user has left because of its own output comes again when that has gone.
  mutating func heldByOutput() {
    if !leftover.isEmpty { wantsRedelivery = true }
  }

  /// The peer has closed its direction.
  mutating func end() {
    hasEnded = true
  }

  /// Nobody takes what is held.
  mutating func drop() {
    leftover = []
  }
}
