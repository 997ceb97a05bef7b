/// The closing handshake (RFC 6455 §7.1).  open → sent → done,  open → done
package struct WebSocketCloseMachine: Sendable {
  package enum Action: Hashable, Sendable {
    case none
    /// Send a close frame and wait, with a deadline, for the peer's.
    case sendClose(WebSocketCloseCode?)
    /// Send a close frame; the handshake is over with it.
    case sendCloseAndEnd(WebSocketCloseCode?)
    /// The handshake is over: the transport can close.
    case closeTransport
  }

  private enum State: Hashable, Sendable {
    case open
    case sent
    case done
  }
  private var state = State.open

  package init() {}

  /// Whether messages may be sent.
  package var isOpen: Bool { state == .open }
  /// Whether both close frames, or all that will come, have gone.
  package var isDone: Bool { state == .done }

  /// This side wants to close.
  package mutating func closeRequested(_ code: WebSocketCloseCode) -> Action {
    switch state {
    case .open:
      state = .sent
      return .sendClose(code)
    case .sent, .done:
      return .none
    }
  }

  /// The peer's close frame has come; its code is echoed (§5.5.1).
  package mutating func closeReceived(_ code: WebSocketCloseCode?) -> Action {
    end(answering: code)
  }

  /// The peer broke the rules: it is told why, and nothing of it is read any more (§7.1.7).
  package mutating func violationFound(_ code: WebSocketCloseCode) -> Action {
    end(answering: code)
  }

  private mutating func end(answering code: WebSocketCloseCode?) -> Action {
    defer { state = .done }
    return switch state {
    case .open: .sendCloseAndEnd(code)
    case .sent: .closeTransport
    case .done: .none
    }
  }
}

/// How many control frames a peer may send in a time (each costs an answer or at least a look).
package struct ControlFrameBudget: Sendable {
  private let limits: WebSocketLimits
  /// When those came that still count, the oldest first.
  private var receipts: [Duration] = []

  package init(limits: WebSocketLimits) {
    self.limits = limits
  }

  /// Counts one control frame at `now`, a time since any fixed start.
  ///
  /// - Throws: `WebSocketError` with 1008 for one too many.
  package mutating func spend(at now: Duration) throws(WebSocketError) {
    let expired = receipts.prefix { now - $0 >= limits.controlWindow }.count
    receipts.removeFirst(expired)
    guard receipts.count < limits.controlFramesMax else {
      throw WebSocketError(.policyViolation, "§5.5", "too many control frames")
    }
    receipts.append(now)
  }
}
