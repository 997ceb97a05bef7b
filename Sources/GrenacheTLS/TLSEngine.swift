internal import COpenSSL

/// Whether a handshake is over.
package enum TLSProgress: Hashable, Sendable {
  case done
  case wantsInput
}

/// What reading gave.
package enum TLSRead: Hashable, Sendable {
  case bytes(Int)
  case wantsInput
  /// close_notify: the peer has sent everything.
  case closed
}

/// What a handshake has agreed on, as OpenSSL names it.
public struct TLSNegotiation: Hashable, Sendable, CustomStringConvertible {
  /// `TLSv1.3` or `TLSv1.2`.
  public var version: String
  /// `TLS_AES_256_GCM_SHA384`, for example.
  public var cipherSuite: String
  /// The group of the key exchange, `x25519` for example.
  public var group: String
  /// Whether a session was resumed: neither side has signed anything.
  public var isResumed: Bool
  /// The version and the cipher suite.
  public var description: String { "\(version) \(cipherSuite)" }
}

/// One TLS connection without its socket: ciphertext in and out through a window, plaintext in and out
/// through the caller's memory.
///
/// After each call the window's output holds what is to be sent, an alert included when the call
/// throws. Only one engine of a window may be between "lend" and "sent" at a time.
@safe
package final class TLSEngine {
  /// Which end this is.
  package enum Role: Sendable {
    /// `serverName` is sent as SNI; `nil` for an IP address (RFC 6066 §3). With the address as
    /// `destination`, a session with it may be resumed.
    case client(serverName: String?, verification: PeerVerification, destination: String? = nil)
    case server
  }

  /// Who is at the other end, once its chain has been verified.
  package private(set) var peerIdentity: PeerIdentity?
  /// Who the peer says it is, believed or not: for those who look into a failure.
  package private(set) var presentedIdentity: PeerIdentity?

  let ssl: OpaquePointer
  private let side: TLSError.Side
  let verification: PeerVerification
  /// What the connection began with may have been replaced since.
  package let context: TLSContext
  let snapshot: TLSSnapshot
  private let window: TLSWindow
  /// Under what sessions with the server are kept.
  let sessionKey: TLSSessionCache.Key?
  /// Who has proved to be at the other end in a full handshake.
  private var handshakeIdentity: PeerIdentity?
  /// When that was looked at, in seconds since 1970.
  private var verifiedAt: Int64 = 0
  /// What is known of the session that may be resumed.
  var resumption: Resumption?
  /// How many tickets the client has offered in this handshake.
  var ticketsSeen = 0
  /// How long the server's stapled status is good, in seconds since 1970.
  var statusEnd = Int64.max
  /// What this side has found wrong itself, in a callback of OpenSSL.
  private var ownFailure: TLSError?
  private var isEstablished = false
  private var messagesWithoutData = 0

  /// Prepares a connection.
  ///
  /// - Throws: `TLSError` with `internalError` when OpenSSL has no memory.
  package init(context: TLSContext, role: Role, window: TLSWindow) throws(TLSError) {
    let snapshot = context.current
    self.context = context
    self.snapshot = snapshot
    self.window = window
    let source: OpaquePointer
    switch role {
    case .client(let name, let verification, let destination):
      side = .client
      self.verification = verification
      sessionKey = destination.map { destination in
        TLSSessionCache.Key(
          destination: destination, serverName: name, verification: verification,
          ownFingerprint: snapshot.fingerprintSHA256)
      }
      unsafe source = snapshot.client
    case .server:
      side = .server
      verification = snapshot.clientVerification
      sessionKey = nil
      unsafe source = snapshot.server
    }
    guard let ssl = unsafe SSL_new(source) else {
      throw TLSError(.internalError, side: side, stage: .configuration)
    }
    unsafe self.ssl = unsafe ssl
    guard unsafe grenache_ssl_attach(ssl, window.raw) == 1 else {
      throw TLSError(.internalError, side: side, stage: .configuration)
    }
    unsafe SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
    switch role {
    case .client(let name, _, _):
      if let name { unsafe grenache_ssl_set_server_name(ssl, name) }
      unsafe grenache_ssl_ask_status(ssl)
      unsafe SSL_set_connect_state(ssl)
      if let sessionKey { offerSession(sessionKey) }
    case .server:
      unsafe SSL_set_accept_state(ssl)
    }
  }

  deinit {
    unsafe SSL_free(ssl)
  }

  /// Goes on with the handshake as far as the input reaches.
  package func handshake() throws(TLSError) -> TLSProgress {
    let result = unsafe grenache_ssl_handshake(ssl)
    if result > 0 {
      isEstablished = true
      peerIdentity = verifiedIdentity
      // Only now has the peer shown that it has the key.
      if let handshakeIdentity {
        snapshot.verified.note(handshakeIdentity, side: side, at: verifiedAt)
      }
      return .done
    }
    if -result == SSL_ERROR_WANT_READ { return .wantsInput }
    throw failure(.handshake, -result)
  }

  /// Messages of TLS itself (new keys, tickets) that a peer may send without a byte of data between
  /// them: each costs this side time, and may cost it an answer.
  static let messagesWithoutDataMax = 32

  /// Reads plaintext; at most one record a call.
  @inline(__always)
  package func read(into buffer: UnsafeMutableRawBufferPointer) throws(TLSError) -> TLSRead {
    unsafe window.raw.pointee.messages = 0
    let result = unsafe grenache_ssl_read(ssl, buffer.baseAddress, buffer.count)
    let messages = unsafe messagesWithoutData + Int(window.raw.pointee.messages)
    if messages > Self.messagesWithoutDataMax { throw flooded() }
    messagesWithoutData = result > 0 ? 0 : messages
    if result > 0 { return .bytes(result) }
    if -result == SSL_ERROR_WANT_READ { return .wantsInput }
    if -result == SSL_ERROR_ZERO_RETURN { return .closed }
    throw failure(.read, -result)
  }

  /// Seals `bytes`, at most `TLSWindow.plaintextBytesMax`, into the window's output.
  @inline(__always)
  package func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
    let result = unsafe grenache_ssl_write(ssl, bytes.baseAddress, bytes.count)
    if result != bytes.count { throw failure(.write, -result) }
  }

  /// Queues close_notify: this side has sent everything.
  package func closeNotify() {
    guard isEstablished else { return }
    ERR_clear_error()
    _ = unsafe SSL_shutdown(ssl)
    ERR_clear_error()
  }

  /// The stream has ended: `nil` if the peer said so before, else the error to report.
  package func endOfInput() -> TLSError? {
    guard isEstablished else {
      var error = TLSError(.protocolViolated, side: side, stage: .handshake)
      error.reasons = ["the peer closed the connection during the handshake"]
      return error
    }
    guard unsafe SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN == 0 else { return nil }
    return TLSError(.truncated, side: side, stage: .read)
  }

  /// What has been agreed on; asked for once, since each reply of a client bears it.
  package private(set) lazy var negotiated: TLSNegotiation? = readNegotiated()

  private func readNegotiated() -> TLSNegotiation? {
    guard isEstablished, let version = unsafe SSL_get_version(ssl),
      let cipher = unsafe SSL_CIPHER_get_name(SSL_get_current_cipher(ssl))
    else { return nil }
    return unsafe TLSNegotiation(
      version: String(cString: version), cipherSuite: String(cString: cipher),
      group: SSL_group_to_name(ssl, grenache_ssl_group(ssl)).map { unsafe String(cString: $0) }
        ?? "",
      isResumed: SSL_session_reused(ssl) == 1)
  }

  /// What is wrong with the peer by the certificates, roots and lists that are in use now, if the
  /// handshake began before they came.
  package func recheckAfterReload() -> TLSError? {
    let current = context.current
    guard current !== snapshot, let peerIdentity else { return nil }
    return current.recheck(peerIdentity, side: side)
  }

  // MARK: Verification

  /// Who is at the other end, as far as the handshake has come: a session that was offered may still
  /// be turned down.
  var verifiedIdentity: PeerIdentity? {
    unsafe SSL_session_reused(ssl) == 1 ? resumption?.peer : handshakeIdentity
  }

  /// Called by OpenSSL for a server's stapled status; whether it is good enough.
  func checkStatus() -> Bool {
    guard let failure = statusFailure() else { return true }
    ownFailure = failure
    presentedIdentity = handshakeIdentity
    return false
  }

  /// The client offers more sessions than this side looks at.
  func refuseTickets() {
    var failure = TLSError(.protocolViolated, side: side, stage: .handshake)
    failure.reasons = ["the client offers more than \(Self.ticketsMax) sessions"]
    ownFailure = failure
  }

  /// The engine of a connection, for OpenSSL's callbacks.
  static func of<Value>(
    _ ssl: OpaquePointer, otherwise: Value, _ body: (TLSEngine) -> Value
  ) -> Value {
    guard let engine = unsafe SSL_get_ex_data(ssl, 0) else { return otherwise }
    // What a callback leaves in the queue would count as an error of the connection.
    defer { ERR_clear_error() }
    return unsafe Unmanaged<TLSEngine>.fromOpaque(engine)._withUnsafeGuaranteedRef(body)
  }

  /// What ALPN has agreed on (RFC 7301); empty for nothing, which is `http/1.1` as well. What a client has
  /// not offered, OpenSSL does not take.
  var applicationProtocol: [UInt8] {
    var start: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    unsafe SSL_get0_alpn_selected(ssl, &start, &count)
    return unsafe Array(UnsafeBufferPointer(start: start, count: Int(count)))
  }

  /// Called by OpenSSL in the handshake, with the chain that the peer has presented.
  func verify(_ store: OpaquePointer) -> Bool {
    verifiedAt = wallClock()
    guard let leaf = unsafe X509_STORE_CTX_get0_cert(store) else { return false }
    var chain: [[UInt8]] = []
    let presented = unsafe X509_STORE_CTX_get0_untrusted(store)
    for index in 0..<(unsafe grenache_chain_count(presented)) {
      if let certificate = unsafe grenache_chain_at(presented, index) {
        chain.append(unsafe certificateDER(certificate))
      }
    }
    guard unsafe grenache_verify(store) == 1 else {
      unsafe ownFailure = chainFailure(store)
      unsafe presentedIdentity = PeerIdentity(certificate: leaf, chain: chain)
      return false
    }
    let issuers = unsafe TLSSnapshot.issuers(in: X509_STORE_CTX_get0_chain(store))
    let identity = unsafe PeerIdentity(certificate: leaf, chain: chain, issuers: issuers)
    guard verification.accepts(identity) else {
      ownFailure = TLSError(
        identity, isNot: verification, side: side, stage: .handshake)
      presentedIdentity = identity
      unsafe X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH)
      return false
    }
    handshakeIdentity = identity
    return true
  }

  private func chainFailure(_ store: OpaquePointer) -> TLSError {
    let code = unsafe X509_STORE_CTX_get_error(store)
    var error = TLSError(TLSError.Code(verifyCode: code), side: side, stage: .handshake)
    error.verifyCode = Int(code)
    error.verifyText = unsafe String(cString: X509_verify_cert_error_string(Int(code)))
    error.depth = Int(unsafe X509_STORE_CTX_get_error_depth(store))
    if let certificate = unsafe X509_STORE_CTX_get_current_cert(store) {
      error.subject = unsafe nameText(unsafe X509_get_subject_name(certificate))
      error.issuer = unsafe nameText(unsafe X509_get_issuer_name(certificate))
    }
    return error
  }

  // MARK: Errors

  private func flooded() -> TLSError {
    window.takeBack()
    ERR_clear_error()
    var error = TLSError(.protocolViolated, side: side, stage: .read)
    error.reasons = [
      "the peer sends more than \(Self.messagesWithoutDataMax) messages of TLS without data"
    ]
    return error
  }

  private func failure(_ stage: TLSError.Stage, _ code: Int) -> TLSError {
    window.takeBack()
    if var error = ownFailure {
      error.reasons += takeOpenSSLReasons()
      return error
    }
    let errors = takeOpenSSLErrors()
    var error = TLSError(TLSError.Code(errors), side: side, stage: stage)
    if let alert = errors.lazy.compactMap(\.alertFromPeer).first {
      let name = unsafe SSL_alert_desc_string_long(Int32(alert)).map { unsafe String(cString: $0) }
      error.alert = TLSError.Alert(number: alert, name: name ?? "unknown")
    }
    error.reasons = errors.compactMap(\.text)
    return error
  }
}

extension TLSError.Code {
  /// What OpenSSL's verdict on a chain means.
  init(verifyCode: Int32) {
    switch verifyCode {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      X509_V_ERR_CERT_SIGNATURE_FAILURE:
      self = .unknownAuthority
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      self = .selfSigned
    case X509_V_ERR_CERT_HAS_EXPIRED:
      self = .expired
    case X509_V_ERR_CERT_NOT_YET_VALID:
      self = .notYetValid
    case X509_V_ERR_INVALID_PURPOSE, X509_V_ERR_INVALID_CA, X509_V_ERR_KEYUSAGE_NO_CERTSIGN,
      X509_V_ERR_PATH_LENGTH_EXCEEDED:
      self = .wrongUsage
    case X509_V_ERR_CERT_REVOKED:
      self = .revoked
    case X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_CRL_HAS_EXPIRED, X509_V_ERR_CRL_NOT_YET_VALID,
      X509_V_ERR_CRL_SIGNATURE_FAILURE, X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
      self = .revocationUnknown
    case X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK:
      self = .tooWeak
    default:
      self = .badCertificate
    }
  }

  /// What the errors of a failed call mean, the oldest first.
  init(_ errors: [OpenSSLError]) {
    // What the peer sends in ASN.1 is its certificate. TLS itself then says only that ASN.1 has failed.
    let certificates = [ERR_LIB_ASN1, ERR_LIB_X509, ERR_LIB_X509V3]
    if let oldest = errors.first, certificates.contains(oldest.library), !oldest.isCommon {
      self = .badCertificate
    } else if let cause = errors.first(where: { $0.library == ERR_LIB_SSL && !$0.isCommon }) {
      self = cause.alertFromPeer.map(Self.init(alert:)) ?? Self(reason: cause.reason)
    } else {
      self = .internalError
    }
  }

  /// What a reason of OpenSSL's SSL library means.
  private init(reason: Int32) {
    switch reason {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      self = .noCertificate
    case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_WRONG_VERSION_NUMBER,
      SSL_R_PACKET_LENGTH_TOO_LONG, SSL_R_BAD_PACKET_LENGTH:
      self = .notTLS
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SUITABLE_GROUPS,
      SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, SSL_R_VERSION_TOO_LOW, SSL_R_NO_PROTOCOLS_AVAILABLE,
      SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
      self = .nothingShared
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      self = .truncated
    case SSL_R_UNABLE_TO_FIND_PUBLIC_KEY_PARAMETERS, SSL_R_UNKNOWN_CERTIFICATE_TYPE:
      self = .badCertificate
    default:
      self = .protocolViolated
    }
  }

  /// What an alert of the peer means (RFC 8446 §6.2).
  private init(alert: Int) {
    // 51, decrypt error: a signature of the certificate or with its key does not fit.
    switch alert {
    case 41, 42, 43, 44, 45, 46, 48, 49, 51, 113, 115, 116: self = .refusedByPeer
    case 40, 70, 71, 120: self = .nothingShared
    default: self = .protocolViolated
    }
  }
}
