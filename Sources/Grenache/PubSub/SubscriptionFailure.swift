public import GrenacheTransport

/// What is in a subscriber's way.
public struct SubscriptionFailure: Hashable, Sendable {
  /// The publisher that cannot be followed; `nil` where nobody can say who the publishers are.
  public var publisher: Endpoint?
  /// Why.
  public var error: GrenacheError
}

extension GrenacheError.Code {
  /// No connection to the publisher, or it breaks off at once.
  public static let publisherUnreachable = Self(name: "publisherUnreachable", isRetryable: true)
  /// The publisher could not prove that it may publish the key, or did not trust this side.
  public static let publisherNotTrusted = Self(name: "publisherNotTrusted", isRetryable: false)
}

extension GrenacheError {
  init(following publisher: Endpoint, of key: String, _ error: TransportError) {
    if error.tls != nil {
      self.init(
        .publisherNotTrusted, "no publisher of \(key) at \(publisher) can be trusted", cause: error)
    } else if error.code == .upgradeForbidden {
      self.init(
        .notPermitted,
        "the publisher of \(key) at \(publisher) does not allow this side to subscribe",
        cause: error)
    } else if error.code == .protocolViolated {
      self.init(
        .publisherUnreachable,
        "the publisher of \(key) at \(publisher) breaks a rule, or a limit of this side",
        cause: error)
    } else {
      self.init(
        .publisherUnreachable, "no publisher of \(key) at \(publisher) can be reached", cause: error
      )
    }
  }

  /// A connection that ended before it was of any use, or because this side may not subscribe.
  init(following publisher: Endpoint, of key: String, endedBy closure: WebSocketClosure) {
    if let error = closure.error {
      self.init(following: publisher, of: key, error)
      return
    }
    let isDenied = closure.reason == WebSocketConnection.refusal
    let code = closure.code.map { " with \($0.rawValue)" } ?? ""
    let reason = closure.reason.isEmpty ? "" : ": \(closure.reason)"
    self.init(
      isDenied ? .notPermitted : .publisherUnreachable,
      "the publisher of \(key) at \(publisher) closed the connection\(code)\(reason)")
  }
}
