/// Chooses a server's certificate by the name that a client asks for (SNI, RFC 6066 §3).
public struct TLSIdentityChooser: Hashable, Sendable {
  /// Which certificate a client gets.
  public enum Choice: Hashable, Sendable {
    /// The first of `furtherIdentities` that bears the name, else the main one: as without a chooser.
    case byName
    /// The main one.
    case main
    /// One of `furtherIdentities`, by its position; the main one for a position beyond the end.
    case further(Int)
    /// None: the handshake fails with the alert unrecognized_name (112).
    case refuse
  }
  private let closure: IdentifiedClosure<String, Choice>

  /// Asked in each handshake of a client that names a host, on the thread of the connection's loop:
  /// it must not wait for anything. The name is as the client sent it, and not to be trusted.
  public init(_ body: @escaping @Sendable (String) -> Choice) {
    closure = IdentifiedClosure(body)
  }

  func callAsFunction(_ name: String) -> Choice { closure(name) }
}
