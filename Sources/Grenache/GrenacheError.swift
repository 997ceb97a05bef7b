internal import GrenacheAccess
public import GrenacheTransport

/// Why a lookup, an announcement or a call failed.
public struct GrenacheError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What went wrong; new codes may come.
  public struct Code: Hashable, Sendable, CustomStringConvertible {
    let name: String
    let isRetryable: Bool
    /// The code's name.
    public var description: String { name }

    /// No grape could be reached.
    public static let grapeUnreachable = Code(name: "grapeUnreachable", isRetryable: true)
    /// A grape answered with an error, or with something that is no answer.
    public static let grapeRefused = Code(name: "grapeRefused", isRetryable: false)
    /// The lookup found no worker of the service.
    public static let serviceNotFound = Code(name: "serviceNotFound", isRetryable: true)
    /// Workers were found, but none could be connected to: no call has reached any.
    public static let workerUnreachable = Code(name: "workerUnreachable", isRetryable: true)
    /// The same, and need not be reached: another one has been. No caller sees it.
    static let connectedElsewhere = Code(name: "connectedElsewhere", isRetryable: true)
    /// The workers that were found could not prove that they may answer for the service.
    public static let workerNotTrusted = Code(name: "workerNotTrusted", isRetryable: false)
    /// The connection broke after the call was sent: whether it was carried out is not known.
    public static let connectionLost = Code(name: "connectionLost", isRetryable: false)
    /// The worker or the grape turned the call away: it has as many as it takes. The call was not carried
    /// out.
    public static let overloaded = Code(name: "overloaded", isRetryable: true)
    /// The deadline passed.
    public static let deadlineExceeded = Code(name: "deadlineExceeded", isRetryable: false)
    /// The caller's task was cancelled.
    public static let cancelled = Code(name: "cancelled", isRetryable: false)
    /// The worker answered with an error; `message` is the worker's.
    public static let remoteError = Code(name: "remoteError", isRetryable: false)
    /// The worker's or grape's access policy does not allow it to this side's certificate.
    public static let notPermitted = Code(name: "notPermitted", isRetryable: false)
    /// The worker's answer is not what was asked for.
    public static let invalidReply = Code(name: "invalidReply", isRetryable: false)
    /// The payload cannot be encoded as JSON.
    public static let invalidPayload = Code(name: "invalidPayload", isRetryable: false)
    /// A limit of this side's configuration was reached, or of its process: no descriptor is left for a
    /// connection.
    public static let limitReached = Code(name: "limitReached", isRetryable: true)
    /// This side's publisher shuts down, or has: it says nothing more.
    public static let shuttingDown = Code(name: "shuttingDown", isRetryable: false)
    /// The configuration cannot work.
    public static let invalidConfiguration = Code(name: "invalidConfiguration", isRetryable: false)
  }

  /// What went wrong.
  public var code: Code
  /// One line for a person.
  public var message: String
  /// What the transport or TLS said, where one of them was the cause.
  public var cause: TransportError?
  /// The result that a worker has sent beside its error, as existing ones may: one JSON value.
  public internal(set) var result: [UInt8]?

  /// Makes an error from its parts.
  public init(_ code: Code, _ message: String, cause: TransportError? = nil) {
    self.code = code
    self.message = message
    self.cause = cause
  }

  /// Whether the same call may succeed later, and cannot have been carried out already.
  public var isRetryable: Bool { code.isRetryable }

  /// The message and its cause on one line that may be logged or printed, whoever said what is in it:
  /// characters that control terminals are written as `\u{…}`, and of the message 200 bytes are left.
  public var description: String {
    let message = message.quotedForLog()
    guard let cause else { return message }
    // What TLS says of a certificate, and how to mend it, is longer.
    return "\(message): \(cause.description.quotedForLog(bytesMax: Self.causeBytesMax))"
  }

  private static let causeBytesMax = 2_000
}

extension GrenacheError {
  /// A server over TLS without a policy would answer anybody whom the roots vouch for, or nobody knows whom.
  static var noPolicy: GrenacheError {
    GrenacheError(
      .invalidConfiguration,
      "no access policy: over TLS it has to say who may do what; AccessControl() does")
  }
}
