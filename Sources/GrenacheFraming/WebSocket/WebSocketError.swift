/// A peer that breaks the rules of RFC 6455, or a limit.
package struct WebSocketError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The close code to send.
  package var closeCode: WebSocketCloseCode
  /// The section that says so.
  package var section: String
  /// One line for a person, short enough for a close frame.
  package var message: String

  init(_ closeCode: WebSocketCloseCode, _ section: String, _ message: String) {
    self.closeCode = closeCode
    self.section = section.hasPrefix("§") ? "RFC 6455 \(section)" : section
    self.message = message
  }

  /// The message, the section and the code.
  package var description: String { "\(message) (\(section), code \(closeCode.rawValue))" }
}

/// Why a connection closes (RFC 6455 §7.4).
package struct WebSocketCloseCode: RawRepresentable, Hashable, Sendable {
  /// The number on the wire.
  package let rawValue: UInt16

  /// The code of any number.
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// 1000: the purpose is fulfilled.
  package static let normal = WebSocketCloseCode(rawValue: 1000)
  /// 1001: the endpoint goes away.
  package static let goingAway = WebSocketCloseCode(rawValue: 1001)
  /// 1002: the peer broke the protocol.
  package static let protocolError = WebSocketCloseCode(rawValue: 1002)
  /// 1003: a kind of data that is not accepted.
  package static let unsupportedData = WebSocketCloseCode(rawValue: 1003)
  /// 1007: text that is not UTF-8.
  package static let invalidPayload = WebSocketCloseCode(rawValue: 1007)
  /// 1008: a rule of this endpoint.
  package static let policyViolation = WebSocketCloseCode(rawValue: 1008)
  /// 1009: a message that is too big.
  package static let messageTooBig = WebSocketCloseCode(rawValue: 1009)
  /// 1011: the server failed.
  package static let internalError = WebSocketCloseCode(rawValue: 1011)

  /// Whether the code may stand in a close frame (RFC 6455 §7.4.1, §7.4.2, and IANA's registry).
  package var mayBeSent: Bool {
    switch rawValue {
    case 1000...1003, 1007...1014, 3000...4999: true
    default: false
    }
  }
}
