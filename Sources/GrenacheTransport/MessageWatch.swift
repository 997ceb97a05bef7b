internal import GrenacheFraming
internal import GrenacheIO

/// Whether the rest of a message that has begun follows fast enough: what has come of it is memory that
/// its sender holds.
///
///     resting → watching (a part of a message has come, and not its end) → resting
struct MessageWatch {
  enum Action: Hashable {
    case none
    /// Look after this time.
    case look(after: Duration)
    /// Look no more.
    case rest
    /// The message is too slow.
    case refuse
  }

  /// How often to look, after the grace.
  static let interval = Duration.seconds(1)

  private enum State {
    case resting
    /// Since when, and how many bytes had come before.
    case watching(since: MonotonicTime, receivedBytes: Int)
  }

  private let rate: ReceiptRate
  private var state = State.resting
  private var receivedBytes = 0
  /// Whether a message has ended since the last one was begun to be watched.
  private var hasMessageEnded = false

  init(_ rate: ReceiptRate) {
    self.rate = rate
  }

  var isWatching: Bool {
    switch state {
    case .resting: false
    case .watching: true
    }
  }

  mutating func messageEnded() {
    hasMessageEnded = true
  }

  /// So many bytes more have come, at the end of which a message `isInMessage` that has not ended.
  mutating func received(_ count: Int, isInMessage: Bool, at now: MonotonicTime) -> Action {
    let before = receivedBytes
    receivedBytes &+= count
    switch (isInMessage, state) {
    case (false, .resting):
      return .none
    case (false, .watching):
      state = .resting
      return .rest
    case (true, .watching) where !hasMessageEnded:
      return .none
    case (true, .watching), (true, .resting):
      return begin(after: before, at: now)
    }
  }

  /// The time to look has come.
  ///
  /// - Parameter isReading: whether this side reads; while it does not, nobody is slow.
  mutating func timerFired(isReading: Bool, at now: MonotonicTime) -> Action {
    switch state {
    case .resting:
      return .none
    case .watching where !isReading:
      return begin(after: receivedBytes, at: now)
    case .watching(let start, let before):
      let isTooSlow = rate.isTooSlow(receivedBytes &- before, after: now - start)
      return isTooSlow ? .refuse : .look(after: Self.interval)
    }
  }

  private mutating func begin(after bytes: Int, at now: MonotonicTime) -> Action {
    hasMessageEnded = false
    state = .watching(since: now, receivedBytes: bytes)
    return .look(after: rate.grace)
  }
}
