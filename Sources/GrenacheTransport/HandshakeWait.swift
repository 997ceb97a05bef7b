internal import GrenacheIO

/// How long a server's handshake has waited for its client, all waits together: however often a client says
/// some little thing, its time passes, and the server's own does not count.
///
///     waiting for the client ↔ a step is due
struct HandshakeWait {
  /// When the first wait would have begun, if they had all been one.
  private var since = MonotonicTime(nanoseconds: 0)
  private var dueSince: MonotonicTime?

  /// Since when the client would have been waited for without a rest; `nil` while it is not waited for.
  var quietSince: MonotonicTime? { dueSince == nil ? since : nil }

  mutating func began(at now: MonotonicTime) { since = now }

  /// Something has come, and waits for this side.
  mutating func stepDue(at now: MonotonicTime) { dueSince = dueSince ?? now }

  /// This side has taken it in, and waits again.
  mutating func stepTaken(at now: MonotonicTime) {
    guard let dueSince else { return }
    since = since + (now - dueSince)
    self.dueSince = nil
  }
}
