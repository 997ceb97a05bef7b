internal import GrenacheFraming
internal import Metrics

/// Counts what breaks a rule or a limit. A counter is looked up when something is refused, so that
/// what is served pays nothing for it; how many there can be, the enumerations of reasons, statuses
/// and close codes bound.
enum Refusals {
  /// Why a connection was closed before its first request.
  enum Reason: String {
    /// There were as many as are allowed.
    case tooMany = "too_many"
    /// Its turn to shake hands did not come in time.
    case handshakeWait = "handshake_wait"
    /// It did not shake hands in time.
    case handshakeTimeout = "handshake_timeout"
    /// It broke TLS's rules, or its certificate was refused.
    case handshakeFailed = "handshake_failed"
    /// It asked for nothing.
    case silent
  }

  static func count(_ reason: Reason) {
    Counter(
      label: "grenache_connection_refusals_total", dimensions: [("reason", reason.rawValue)]
    ).increment()
  }

  /// A request that was answered with `status` by the server itself, not by a handler.
  static func count(_ status: HTTPStatus) {
    Counter(label: "grenache_http_refusals_total", dimensions: [("status", "\(status.code)")])
      .increment()
  }

  static func count(_ code: WebSocketCloseCode) {
    Counter(
      label: "grenache_websocket_refusals_total", dimensions: [("code", "\(code.rawValue)")]
    ).increment()
  }
}
