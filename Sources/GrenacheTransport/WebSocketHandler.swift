package import GrenacheFraming
package import GrenacheIO

/// What speaks over a WebSocket. All calls are on the connection's loop; all but `received` may be
/// left out.
package protocol WebSocketHandler: AnyObject {
  /// A message has come; its bytes are lent for the duration of the call.
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop)
  /// The messages of one read have been handed over: the time to start what they asked for.
  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop)
  /// So much output has been sent that more is welcome again.
  func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop)
  /// The server shuts down: finish what is under way, then close with 1001.
  func drain(_ connection: WebSocketConnection, on loop: isolated EventLoop)
  /// The connection is closed; nothing follows.
  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop)
}

extension WebSocketHandler {
  package func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {}
  package func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop) {}
  package func drain(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    connection.close(.goingAway, on: loop)
  }
  package func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {}
}

/// How a WebSocket connection ended.
package struct WebSocketClosure: Hashable, Sendable {
  /// The peer's close code, if it sent one.
  package var code: WebSocketCloseCode?
  /// What the peer said of it, at most 123 bytes (RFC 6455 §5.5.1).
  package var reason = ""
  /// What broke the connection; `nil` after a closing handshake.
  package var error: TransportError?
  /// The code that this side has closed with since the peer broke a rule or a limit.
  package var violation: WebSocketCloseCode?
}

/// Who keeps count of a connection.
protocol WebSocketOwner: AnyObject {
  func webSocketClosed(_ webSocket: WebSocketConnection, on loop: isolated EventLoop)
}
