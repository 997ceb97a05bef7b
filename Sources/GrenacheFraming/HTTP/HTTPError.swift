/// An HTTP message that breaks the rules of RFC 9110 or RFC 9112, or a limit.
package struct HTTPError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Whose fault it is.
  package enum Origin: Hashable, Sendable {
    /// The peer sent it.
    case remote
    /// This side's caller asked for it.
    case local
  }

  /// Whose fault it is.
  package var origin: Origin
  /// One line for a person.
  package var message: String
  /// The section that says so.
  package var section: String
  /// The status to answer with, for a server.
  package var statusHint: Int

  init(_ statusHint: Int, _ section: String, _ message: String, origin: Origin = .remote) {
    self.origin = origin
    self.statusHint = statusHint
    self.section = section
    self.message = message
  }

  /// The message and the section.
  package var description: String { "\(message) (\(section))" }
}
