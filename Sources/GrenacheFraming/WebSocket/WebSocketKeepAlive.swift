/// Notices a peer that is gone without a word (RFC 6455 §5.5.2).
///
///     watching → (quiet for the interval: ping) → pinged → (still quiet: give up)
///         ↖───────────────────(a byte)──────────────┘
package struct WebSocketKeepAlive: Sendable {
  package enum Action: Hashable, Sendable {
    /// Look again after this time.
    case wait(Duration)
    /// Send a ping, and look again after this time.
    case sendPing(thenWait: Duration)
    /// The peer is gone.
    case giveUp
  }

  private enum State: Sendable {
    case watching
    case pinged(at: Duration)
  }
  private let interval: Duration
  private let deadline: Duration
  private var state = State.watching

  /// `nil` when the options say that nobody looks.
  package init?(_ options: WebSocketOptions) {
    guard let interval = options.pingInterval, interval > .zero else { return nil }
    self.interval = interval
    deadline = options.pongTimeout
  }

  /// When to look for the first time.
  package var firstWait: Duration { interval }

  /// The time to look has come. Times are those since any fixed start.
  ///
  /// - Parameters:
  ///   - lastReceipt: when something came from the peer for the last time.
  ///   - isReading: whether anything of it would have been read; what is not read proves nothing.
  package mutating func timerFired(
    at now: Duration, lastReceipt: Duration, isReading: Bool
  ) -> Action {
    guard isReading else {
      state = .watching
      return .wait(interval)
    }
    if case .pinged(let time) = state, lastReceipt <= time { return .giveUp }
    guard now - lastReceipt >= interval else {
      state = .watching
      return .wait(max(lastReceipt + interval - now, .milliseconds(1)))
    }
    state = .pinged(at: now)
    return .sendPing(thenWait: deadline)
  }
}
