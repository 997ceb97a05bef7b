/// Resumption of TLS 1.3 sessions by tickets (RFC 8446 §2.2): a new connection to a known peer without
/// certificates and signatures, but with a key exchange of its own. Sessions of TLS 1.2 are never
/// resumed: its tickets would let whoever learns their key read what was recorded.
///
/// Who is at the other end is verified again on each resumption, on both sides, against the roots,
/// revocation lists and rules of that moment; a session that would not be accepted is not resumed, and
/// the full handshake that takes its place says why.
public struct TLSSessions: Hashable, Sendable {
  /// How long a session may be resumed, and how soon the keys of tickets are replaced (default 1 h, at
  /// most 12 h).
  public var lifetime = Duration.seconds(3_600)
  /// A file with 32 to 1,024 random bytes from which all servers that read it derive the same keys,
  /// a new one each `lifetime`, so that one resumes what another, or the same before a restart, began;
  /// `nil` for a secret of the process's own. Whoever has the file can seal a ticket in any client's
  /// name: it is worth all their keys, only its owner may be able to read it, and it is to be replaced
  /// when somebody else may have. Their clocks may differ by less than `lifetime`.
  public var sharedSecretFile: String?
  /// How many sessions a client keeps, all peers together (default 1,000); each takes about 6 KiB.
  public var clientSessionsMax = 1_000

  /// What is said above.
  public init() {}

  static let lifetimeMax = Duration.seconds(12 * 3_600)
  static let secretBytes = 32...1_024
}
