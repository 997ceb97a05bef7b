internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// What a subscriber knows of one connection to a publisher; the next one begins with a new session.
///
///     connecting → opened → closed
///          └────────→ (never opened)
struct PublisherSession {
  /// How far what came on the connection is known once it has closed.
  enum End: Hashable {
    /// It never was open.
    case unopened
    /// The publisher numbers nothing.
    case unnumbered
    /// - Parameter isInOrder: the publisher went away with everything said, and that was read in time.
    case numbered(isInOrder: Bool)
  }

  /// Why the subscriber has left, if it has.
  private enum Leave {
    case moves
    case denied
  }

  private enum State {
    case connecting
    case opened(isExtended: Bool)
    case closed
  }

  private var state = State.connecting
  private var delay = ReadingDelay()
  private var leave: Leave?
  /// Whether the publisher has said anything on this connection.
  private(set) var hasHeard = false

  /// Whether this connection counts: it has been opened, and has not closed.
  var isOpened: Bool {
    switch state {
    case .opened: true
    case .connecting, .closed: false
    }
  }

  /// Whether the publisher numbers what it says.
  var isExtended: Bool {
    switch state {
    case .opened(let isExtended): isExtended
    case .connecting, .closed: false
    }
  }

  /// Whether the connection was given up for another one, that asks for what it has missed.
  var isMoving: Bool { leave == .moves }

  mutating func opened(isExtended: Bool) {
    state = .opened(isExtended: isExtended)
  }

  /// The publisher has said something.
  ///
  /// - Returns: whether it is the first time.
  mutating func heard() -> Bool {
    defer { hasHeard = true }
    return !hasHeard
  }

  /// The connection is given up for another one, that asks for what it has missed.
  mutating func moves() { leave = .moves }

  /// The publisher is left since it may not publish any more.
  mutating func denied() { leave = .denied }

  mutating func paused() { delay.paused() }

  mutating func resumed(at now: MonotonicTime) { delay.resumed(at: now) }

  mutating func closed(_ closure: WebSocketClosure, at now: MonotonicTime) -> End {
    defer { state = .closed }
    switch state {
    case .connecting, .closed:
      return .unopened
    case .opened(isExtended: false):
      return .unnumbered
    case .opened(isExtended: true):
      // With 1001 a publisher goes away that has said everything (`docs/wire-extensions.md`). Read late
      // it says nothing of who may have come and gone since.
      let isInOrder = closure.code == .goingAway && closure.error == nil
      return .numbered(isInOrder: isInOrder && !delay.isLate(at: now))
    }
  }

  /// Whether the user is to hear that the connection has ended so.
  ///
  /// - Parameter isGood: whether it was worth connecting.
  func isFailure(_ closure: WebSocketClosure, isGood: Bool) -> Bool {
    // What is in the way of one who is denied is told when it is connected to again.
    guard leave == nil else { return false }
    return !isGood || closure.code == .policyViolation || closure.error?.tls != nil
  }
}

extension WebSocketClosure {
  /// Whether this side has closed since it does not take a message: of that the publisher would never
  /// say what comes behind it.
  var isOfUntakenMessage: Bool { violation == .messageTooBig || violation == .invalidPayload }
}
