internal import Glibc
internal import GrenacheFraming
public import GrenacheIO
public import GrenacheTLS

/// Why a connection, a request or an upgrade failed.
public struct TransportError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What went wrong; new codes may come.
  public struct Code: Hashable, Sendable, CustomStringConvertible {
    let name: String
    /// The code's name.
    public var description: String { name }

    /// The name could not be resolved.
    public static let nameNotResolved = Code(name: "nameNotResolved")
    /// No connection: refused, or unreachable.
    public static let connectFailed = Code(name: "connectFailed")
    /// This process or its system has no descriptor or memory left: nothing is wrong with the peer.
    public static let outOfResources = Code(name: "outOfResources")
    /// A server cannot listen at its address: in use, not this host's, or not allowed.
    public static let listenFailed = Code(name: "listenFailed")
    /// A deadline passed.
    public static let timedOut = Code(name: "timedOut")
    /// TLS failed; `tls` says how.
    public static let tlsFailed = Code(name: "tlsFailed")
    /// The peer broke HTTP's or WebSocket's rules.
    public static let protocolViolated = Code(name: "protocolViolated")
    /// The peer answered the opening handshake with something else than an upgrade.
    public static let upgradeRefused = Code(name: "upgradeRefused")
    /// The server allows this peer no upgrade (403).
    public static let upgradeForbidden = Code(name: "upgradeForbidden")
    /// The connection closed or broke before the work was done.
    public static let connectionClosed = Code(name: "connectionClosed")
    /// The caller's task was cancelled.
    public static let cancelled = Code(name: "cancelled")
    /// A limit of this side's configuration was reached.
    public static let limitReached = Code(name: "limitReached")
    /// A request of this side cannot be sent as it is.
    public static let invalidRequest = Code(name: "invalidRequest")
  }

  /// How far things had come.
  public struct Stage: Hashable, Sendable, CustomStringConvertible {
    let name: String
    /// The stage's name.
    public var description: String { name }

    /// Listening for connections.
    public static let listen = Stage(name: "listen")
    /// Making the TCP connection.
    public static let connect = Stage(name: "connect")
    /// The TLS handshake.
    public static let handshake = Stage(name: "TLS handshake")
    /// The WebSocket opening handshake.
    public static let upgrade = Stage(name: "WebSocket opening handshake")
    /// Sending or receiving on an open connection.
    public static let transfer = Stage(name: "transfer")
  }

  /// What went wrong.
  public var code: Code
  /// How far things had come.
  public var stage: Stage
  /// One line for a person.
  public var message: String
  /// The other end, as far as it is known.
  public var peer: SocketAddress?
  /// What TLS says, for `tlsFailed`.
  public var tls: TLSError?

  /// Makes an error from its parts.
  public init(
    _ code: Code, stage: Stage, message: String, peer: SocketAddress? = nil, tls: TLSError? = nil
  ) {
    self.code = code
    self.stage = stage
    self.message = message
    self.peer = peer
    self.tls = tls
  }

  /// One line that says what happened, where, and with whom.
  public var description: String {
    let whom = peer.map { " (\($0))" } ?? ""
    return "\(stage)\(whom): \(message)"
  }
}

extension TransportError {
  init(_ error: SystemCallError, stage: Stage, peer: SocketAddress?) {
    let code: Code
    switch error.errno {
    case ECANCELED: code = .cancelled
    case ETIMEDOUT where stage == .connect: code = .timedOut
    case _ where stage == .connect && error.isShortage: code = .outOfResources
    default: code = stage == .connect ? .connectFailed : .connectionClosed
    }
    self.init(code, stage: stage, message: error.reason, peer: peer)
  }

  init(_ error: TLSError, peer: SocketAddress?) {
    let stage: Stage =
      switch error.stage {
      case .configuration, .handshake: .handshake
      case .read, .write, .recheck: .transfer
      }
    self.init(.tlsFailed, stage: stage, message: error.description, peer: peer, tls: error)
  }

  init(_ error: HTTPError, peer: SocketAddress?) {
    self.init(.protocolViolated, stage: .transfer, message: error.description, peer: peer)
  }

  init(_ error: WebSocketError, peer: SocketAddress?) {
    self.init(.protocolViolated, stage: .transfer, message: error.description, peer: peer)
  }

  static func timedOut(_ stage: Stage, after time: Duration, peer: SocketAddress?) -> Self {
    TransportError(.timedOut, stage: stage, message: "nothing for \(time)", peer: peer)
  }

  static func closed(_ message: String, peer: SocketAddress?) -> Self {
    TransportError(.connectionClosed, stage: .transfer, message: message, peer: peer)
  }

  static func cancelled(_ stage: Stage, peer: SocketAddress?) -> Self {
    TransportError(.cancelled, stage: stage, message: "the caller's task was cancelled", peer: peer)
  }
}
