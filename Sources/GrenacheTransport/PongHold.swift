internal import GrenacheFraming

/// The pong that waits for a peer which sends pings and does not read: one, for the latest of them
/// (RFC 6455 §5.5.3).
struct PongHold {
  /// With more output than this waiting, pings are answered once it has been sent, or has been full and
  /// no longer is.
  static let outputBesideMax = 1 << 10

  /// What the latest ping holds of those that wait for an answer; its pong answers them all.
  private var latest: [UInt8]?

  /// A ping has come while `outputBytes` wait to be sent.
  ///
  /// - Returns: whether it is answered at once; if not, `take` gives what to answer.
  mutating func pinged(_ payload: Span<UInt8>, beside outputBytes: Int) -> Bool {
    if latest == nil, outputBytes <= Self.outputBesideMax { return true }
    latest = payload.copy()
    return false
  }

  /// What the pong holds that waits; it no longer does.
  mutating func take() -> [UInt8]? {
    defer { latest = nil }
    return latest
  }
}
