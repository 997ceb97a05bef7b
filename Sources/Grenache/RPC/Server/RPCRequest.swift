internal import Foundation
public import GrenacheIO
public import GrenacheTLS

/// A call as a service's handler sees it.
public struct RPCRequest: Sendable {
  /// The service that was called.
  public let service: String
  /// The payload as it was sent: one JSON value.
  public let payload: [UInt8]
  /// Who calls, as the client certificate says; `nil` without TLS, and without a certificate, which a server
  /// answers only where it is told to.
  public let identity: PeerIdentity?
  /// The address of the caller.
  public let remoteAddress: SocketAddress
  /// When the caller stops waiting.
  let deadline: MonotonicTime?
  /// What few callers send, kept apart so that the others do not pay for it.
  let extras: Extras?

  /// What few callers send.
  final class Extras: Sendable {
    let action: String?
    let actionArguments: [UInt8]?
    let metadata: [String: String]

    init(action: String?, actionArguments: [UInt8]?, metadata: [String: String]) {
      self.action = action
      self.actionArguments = actionArguments
      self.metadata = metadata
    }
  }

  init(
    service: String, payload: [UInt8], identity: PeerIdentity?, remoteAddress: SocketAddress,
    deadline: MonotonicTime?, extras: Extras?
  ) {
    self.service = service
    self.payload = payload
    self.identity = identity
    self.remoteAddress = remoteAddress
    self.deadline = deadline
    self.extras = extras
  }

  /// A request as a test of a handler makes it.
  ///
  /// - Parameters:
  ///   - service: the service that is called.
  ///   - payload: one JSON value.
  ///   - identity: who calls, as the client certificate says; `PeerIdentity.init(unverifiedPEM:)` makes one.
  ///   - remoteAddress: where the call comes from.
  ///   - timeLeft: how much longer the caller waits, if it says so.
  ///   - metadata: what the caller has sent beside the payload.
  ///   - action: the field `_a` of a call over HTTPS.
  ///   - actionArguments: the field `_ar` of one, one JSON value.
  public init(
    service: String, payload: [UInt8], identity: PeerIdentity? = nil,
    remoteAddress: SocketAddress = .loopback(port: 0), timeLeft: Duration? = nil,
    metadata: [String: String] = [:], action: String? = nil, actionArguments: [UInt8]? = nil
  ) {
    let extras = Extras(
      action: action, actionArguments: actionArguments, metadata: metadata)
    let isPlain = metadata.isEmpty && action == nil && actionArguments == nil
    self.init(
      service: service, payload: payload, identity: identity, remoteAddress: remoteAddress,
      deadline: timeLeft.map { .now() + $0 }, extras: isPlain ? nil : extras)
  }

  /// How much longer the caller waits, never less than zero; `nil` when it did not say. When the time
  /// is over, the handler's task is cancelled.
  public var timeLeft: Duration? { deadline.map { $0 - .now() } }

  /// What the caller has sent beside the payload; existing callers send nothing.
  public var metadata: [String: String] { extras?.metadata ?? [:] }

  /// The field `_a` of a call over HTTPS.
  public var action: String? { extras?.action }

  /// The field `_ar` of a call over HTTPS: one JSON value, `{}` without it.
  public var actionArguments: [UInt8] { extras?.actionArguments ?? Array("{}".utf8) }

  /// Decodes the payload.
  ///
  /// - Parameters:
  ///   - type: what it is to become.
  ///   - coding: how values are read from JSON text.
  /// - Throws: `RPCFault`, which answers the call with a message that the caller can act on.
  public func decode<Value: Decodable>(
    _ type: Value.Type = Value.self, coding: RPCCoding = RPCCoding()
  ) throws(RPCFault) -> Value {
    do {
      return try coding.makeDecoder().decode(type, from: Data(payload))
    } catch {
      throw RPCFault("the payload is not what \(service) takes")
    }
  }
}

/// An error that a handler answers a call with: its message reaches the caller as it is, but for one
/// that begins with `ERR_OVERLOADED` or `ERR_SHUTTING_DOWN`, by which a server says that a call was not
/// begun: that becomes `the handler failed: …`, so that nobody sends the call again.
///
/// Any other error is logged, and the caller learns only that the call failed.
public struct RPCFault: Error, Hashable, Sendable, CustomStringConvertible {
  /// What the message of a call begins with that the access policy does not allow.
  static let notPermittedCode = "ERR_NOT_PERMITTED"

  /// What the message of a call begins with that came while the server shut down.
  package static let shuttingDownCode = "ERR_SHUTTING_DOWN"

  /// What a worker means by the beginning of its message, up to the colon or the end.
  ///
  /// - Parameter isExtended: whether it speaks the extension; from any other worker the text is one of
  ///   an application, whatever it says.
  package static func code(of message: String, isExtended: Bool) -> GrenacheError.Code {
    guard isExtended else { return .remoteError }
    switch message.prefix(while: { $0 != ":" }) {
    case notPermittedCode: return .notPermitted
    case shuttingDownCode: return .workerUnreachable
    case overloadedCode: return .overloaded
    case deadlineCode: return .deadlineExceeded
    default: return .remoteError
    }
  }

  /// The message as a handler's: what would say that the call was not begun is put so that it does not.
  var handlerMessage: String {
    switch Self.code(of: message, isExtended: true) {
    case .workerUnreachable, .overloaded: "the handler failed: \(message)"
    default: message
    }
  }

  /// What the message of a call begins with that took too long, or over HTTPS came too late to be begun.
  package static let deadlineCode = "ERR_DEADLINE_EXCEEDED"

  /// What the message of a call begins with of which the service has too many already.
  package static let overloadedCode = "ERR_OVERLOADED"

  /// What the caller reads.
  public var message: String
  /// One JSON value that the caller gets beside the message (`GrenacheError.result`), as existing servers
  /// may send one; a stream sends none.
  public var result: [UInt8]?

  /// Makes a fault from its message, and what stands beside it.
  public init(_ message: String, result: [UInt8]? = nil) {
    self.message = message
    self.result = result
  }

  /// The message.
  public var description: String { message }
}
