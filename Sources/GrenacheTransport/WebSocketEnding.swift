internal import GrenacheFraming
internal import GrenacheIO

/// How a WebSocket connection ends, and what is told of it: the closing handshake (RFC 6455 §7.1), what
/// the peer has said in it, and what broke the connection, if something did.
///
/// What broke it first is what is told; after a handshake that is done nothing breaks it any more, but
/// what the peer has done wrong.
struct WebSocketEnding {
  typealias Action = WebSocketCloseMachine.Action

  private var handshake = WebSocketCloseMachine()
  private var closure = WebSocketClosure()

  /// Whether messages may be sent.
  var isOpen: Bool { handshake.isOpen }
  /// Whether both close frames, or all that will come, have gone.
  var isDone: Bool { handshake.isDone }
  var isBroken: Bool { closure.error != nil }

  /// This side wants to close.
  mutating func closeRequested(_ code: WebSocketCloseCode) -> Action {
    handshake.closeRequested(code)
  }

  /// The peer's close frame has come.
  mutating func closeReceived(_ code: WebSocketCloseCode?, reason: String) -> Action {
    closure.code = code
    closure.reason = reason
    return handshake.closeReceived(code)
  }

  /// The peer has broken a rule or a limit.
  mutating func violationFound(_ violation: WebSocketError, by peer: SocketAddress?) -> Action {
    fail(TransportError(violation, peer: peer))
    closure.violation = violation.closeCode
    return handshake.violationFound(violation.closeCode)
  }

  /// A changed policy allows the peer nothing any more.
  mutating func refused(_ error: TransportError) -> Action {
    fail(error)
    return handshake.violationFound(.policyViolation)
  }

  /// The connection ends with the handshake as it is; if that is not done, `error` says why.
  mutating func cutShort(_ error: TransportError?) {
    if !isDone { fail(error) }
  }

  /// The connection is closed, by `error` if it was not in order.
  ///
  /// - Returns: what is told.
  mutating func closed(_ error: TransportError?) -> WebSocketClosure {
    cutShort(error)
    return closure
  }

  private mutating func fail(_ error: TransportError?) {
    closure.error = closure.error ?? error
  }
}
