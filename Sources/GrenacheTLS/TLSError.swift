/// Why a TLS connection failed: whose fault, how far it had come, and what to do.
public struct TLSError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What went wrong; new codes may come.
  public struct Code: Hashable, Sendable, CustomStringConvertible {
    let name: String
    /// The code's name.
    public var description: String { name }

    /// The peer presented no certificate.
    public static let noCertificate = Code(name: "noCertificate")
    /// The peer's chain does not lead to a configured root.
    public static let unknownAuthority = Code(name: "unknownAuthority")
    /// The peer's certificate is signed by itself and not among the roots.
    public static let selfSigned = Code(name: "selfSigned")
    /// The peer's certificate, or one above it, has expired.
    public static let expired = Code(name: "expired")
    /// The peer's certificate, or one above it, is not valid yet.
    public static let notYetValid = Code(name: "notYetValid")
    /// The peer's certificate is for another use (extended key usage, CA flag).
    public static let wrongUsage = Code(name: "wrongUsage")
    /// The peer's certificate is revoked.
    public static let revoked = Code(name: "revoked")
    /// A certificate revocation list is missing, expired or not valid.
    public static let revocationUnknown = Code(name: "revocationUnknown")
    /// The peer's key or digest is too weak.
    public static let tooWeak = Code(name: "tooWeak")
    /// The peer's certificate does not cover who was meant.
    public static let nameMismatch = Code(name: "nameMismatch")
    /// The peer's certificate cannot be accepted for another reason; `verifyText` says which.
    public static let badCertificate = Code(name: "badCertificate")
    /// The peer refused this side's certificate, or wanted one.
    public static let refusedByPeer = Code(name: "refusedByPeer")
    /// What came is not TLS.
    public static let notTLS = Code(name: "notTLS")
    /// No version, cipher suite, group or signature that both sides accept.
    public static let nothingShared = Code(name: "nothingShared")
    /// The stream ended without close_notify: what came may be cut off.
    public static let truncated = Code(name: "truncated")
    /// The peer broke the protocol, or a record was changed on the way.
    public static let protocolViolated = Code(name: "protocolViolated")
    /// OpenSSL failed on this side.
    public static let internalError = Code(name: "internalError")
  }

  /// On which side of the connection this error arose.
  public enum Side: Hashable, Sendable {
    /// The side that connected.
    case client
    /// The side that was connected to.
    case server
  }

  /// How far things had come.
  public enum Stage: String, Hashable, Sendable {
    /// Before any connection: the configuration.
    case configuration
    /// Until both sides have proved who they are.
    case handshake
    /// Reading from an open connection.
    case read
    /// Writing to an open connection.
    case write
    /// Of an open connection, after certificates, roots or revocation lists have changed.
    case recheck
  }

  /// An alert that the peer has sent (RFC 8446 §6).
  public struct Alert: Hashable, Sendable {
    /// The number on the wire.
    public var number: Int
    /// OpenSSL's name for it.
    public var name: String
  }

  /// What went wrong.
  public var code: Code
  /// On which side this error arose.
  public var side: Side
  /// How far things had come.
  public var stage: Stage
  /// The peer's alert, if there was one.
  public var alert: Alert?
  /// OpenSSL's number for what is wrong with the chain (`X509_V_ERR_…`), 0 for nothing.
  public var verifyCode = 0
  /// OpenSSL's text for `verifyCode`.
  public var verifyText = ""
  /// How far above the leaf the fault lies, 0 for the leaf itself.
  public var depth = 0
  /// The subject of the certificate concerned, for display.
  public var subject = ""
  /// The issuer of the certificate concerned, for display.
  public var issuer = ""
  /// Who was meant, for `nameMismatch`.
  public var expectedNames: [String] = []
  /// Whom the certificate names, for `nameMismatch`.
  public var presentedNames: [String] = []
  /// What OpenSSL's error queue says.
  public var reasons: [String] = []

  init(_ code: Code, side: Side, stage: Stage) {
    self.code = code
    self.side = side
    self.stage = stage
  }

  /// One line: what happened, to which certificate, and what to do.
  public var description: String {
    var text = "\(code.summary)"
    if code == .nameMismatch {
      let presented = presentedNames.isEmpty ? "no names" : presentedNames.joined(separator: ", ")
      text += ": expected \(expectedNames.joined(separator: " or ")), presented \(presented)"
    }
    if !subject.isEmpty { text += " [subject \(subject), issuer \(issuer), depth \(depth)]" }
    if verifyCode != 0, code != .nameMismatch {
      text += " (\(verifyText), X.509 code \(verifyCode))"
    }
    if let alert {
      text += "; alert \(alert.number) \(alert.name) from the peer"
    }
    if verifyCode == 0, alert == nil, !reasons.isEmpty {
      text += " (\(reasons.joined(separator: "; ")))"
    }
    return "\(text). \(code.remedy)"
  }
}

extension TLSError.Code {
  /// Every code, in the order of `docs/tls-errors.md`.
  static let all: [TLSError.Code] = [
    .noCertificate, .unknownAuthority, .selfSigned, .expired, .notYetValid, .wrongUsage, .revoked,
    .revocationUnknown, .tooWeak, .nameMismatch, .badCertificate, .refusedByPeer, .notTLS,
    .nothingShared, .truncated, .protocolViolated, .internalError,
  ]

  var summary: String {
    switch self {
    case .noCertificate: "the peer presented no certificate"
    case .unknownAuthority: "the peer's certificate comes from an unknown authority"
    case .selfSigned: "the peer's certificate is signed by itself"
    case .expired: "the peer's certificate has expired"
    case .notYetValid: "the peer's certificate is not valid yet"
    case .wrongUsage: "the peer's certificate is not meant for this use"
    case .revoked: "the peer's certificate is revoked"
    case .revocationUnknown: "whether the peer's certificate is revoked cannot be told"
    case .tooWeak: "the peer's key or signature is too weak"
    case .nameMismatch: "the peer's certificate does not cover who was meant"
    case .badCertificate: "the peer's certificate cannot be accepted"
    case .refusedByPeer: "the peer refused this side's certificate"
    case .notTLS: "the peer does not speak TLS"
    case .nothingShared: "no TLS version, cipher suite or signature that both sides accept"
    case .truncated: "the stream ended without close_notify and may be cut off"
    case .protocolViolated: "the peer broke the TLS protocol, or a record was changed on the way"
    default: "TLS failed on this side"
    }
  }

  var remedy: String {
    switch self {
    case .noCertificate: "Give the peer a certificate from a common authority."
    case .unknownAuthority, .selfSigned: "Add the peer's authority to this side's roots."
    case .expired: "Renew the peer's certificate, or set this side's clock."
    case .notYetValid: "Set the clocks of both sides."
    case .wrongUsage: "Issue the certificate with the extended key usage of its side."
    case .revoked: "Issue a new certificate to the peer, if it is trusted again."
    case .revocationUnknown: "Load a current CRL of the issuer."
    case .tooWeak: "Issue a certificate with ECDSA, or RSA of 2048 bits and SHA-256, or better."
    case .nameMismatch: "Issue a certificate with that name, or correct the address or service."
    case .refusedByPeer: "See the peer's log; check this side's certificate and the peer's roots."
    case .notTLS: "Check the port; a peer in the clear must be named as such."
    case .nothingShared: "Bring the older side up to TLS 1.2 or 1.3."
    case .truncated: "Treat what came as incomplete and try again."
    default: "See the reasons."
    }
  }
}
