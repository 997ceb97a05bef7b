internal import COpenSSL

/// A configuration as it was when it was loaded and checked: what connections are made from.
///
/// It does not change after it has been made, and may be used from any thread. Connections keep the
/// one that they began with.
@safe
package final class TLSSnapshot: Sendable {
  /// The only application protocol that is spoken (RFC 7301).
  static let applicationProtocol = Array("http/1.1".utf8)

  /// 112 bits of security: no RSA and no Diffie-Hellman below 2,048 bits, and no SHA-1. What the system's
  /// configuration or a cipher list (`@SECLEVEL`) asks for counts only where it is more.
  static let securityLevelMin: Int32 = 2

  private let mainServer: OpenSSLHandle
  var server: OpaquePointer { unsafe mainServer.pointer }
  nonisolated(unsafe) let client: OpaquePointer
  /// The end of validity, in seconds since 1970, of the certificate that expires first.
  package let notAfter: Int64
  /// SHA-256 of the leaf.
  package let fingerprintSHA256: [UInt8]
  /// The subjects of the roots that have expired, for display.
  package let expiredRoots: [String]

  let clientCertificates: TLSConfiguration.ClientCertificates
  let clientVerification: PeerVerification
  let stapling: TLSStapling
  let sessions: TLSSessions?
  let ticketKeys: TLSTicketKeys
  let keyLog: TLSKeyLog?
  /// SHA-256 over the fingerprints of all certificates of a server.
  let identitiesDigest: [UInt8]
  let verified: VerifiedChains
  /// Who vouches for those who sign certificate status.
  let statusRoots: OpenSSLHandle
  private let mainStatus: StapledStatus?
  private let chooser: TLSIdentityChooser?

  /// A further certificate of a server.
  private struct Named {
    var patterns: [String]
    var context: OpenSSLHandle
  }
  private let further: [Named]

  /// Loads and checks `configuration`.
  ///
  /// - Parameters:
  ///   - ownSecret: what session tickets are sealed with when the configuration names no secret.
  ///   - isChecked: whether what is wrong with it is found; tests present to their peers what no
  ///     checked configuration would.
  /// - Throws: `TLSConfigurationError` with every fault that was found.
  init(
    _ configuration: TLSConfiguration, ownSecret: [UInt8], isChecked: Bool = true
  ) throws(TLSConfigurationError) {
    let (material, others) = try Self.load(configuration, isChecked: isChecked)
    fingerprintSHA256 =
      material.chain.first.map { unsafe Digest.sha256(certificateDER($0.pointer)) } ?? []
    notAfter = ([material] + others).compactMap(\.notAfter).min() ?? 0
    expiredRoots = material.expiredRoots
    identitiesDigest = Digest.sha256(
      ([material] + others).flatMap { one in
        one.chain.first.map { unsafe Digest.sha256(certificateDER($0.pointer)) } ?? []
      })
    verified = VerifiedChains(
      lists: material.revocationLists, usesSystemRoots: configuration.usesSystemRoots)
    statusRoots = try Self.makeStatusRoots(material, configuration)
    clientCertificates = configuration.clientCertificates
    clientVerification = configuration.clientVerification
    stapling = configuration.stapling
    sessions = configuration.sessions
    ticketKeys = TLSTicketKeys(
      secret: material.sharedSecret ?? ownSecret, lifetime: sessions?.lifetime ?? .seconds(1))
    keyLog = material.keyLog
    mainStatus = material.status
    chooser = configuration.identityChooser
    var further: [Named] = []
    for other in others {
      let context = try Self.makeServer(other, configuration, isChecked)
      further.append(Named(patterns: other.dnsNames, context: context))
    }
    self.further = further
    mainServer = try Self.makeServer(material, configuration, isChecked)
    unsafe client = try Self.makeContext(TLS_client_method(), material, configuration, isChecked)
    unsafe SSL_CTX_set_verify(client, SSL_VERIFY_PEER, nil)
    let offered = [UInt8(Self.applicationProtocol.count)] + Self.applicationProtocol
    guard unsafe SSL_CTX_set_alpn_protos(client, offered, UInt32(offered.count)) == 0 else {
      throw Self.failure("the application protocol")
    }
    if !further.isEmpty || chooser != nil {
      unsafe grenache_ctx_on_server_name(server, chooseIdentity)
    }
    if sessions != nil {
      unsafe keepSessions(on: client)
      unsafe resumeSessions(on: server)
      for one in further { unsafe resumeSessions(on: one.context.pointer) }
    }
    unsafe grenache_ctx_on_status(client, exchangeStatus)
    if mainStatus != nil { unsafe grenache_ctx_on_status(server, exchangeStatus) }
  }

  deinit {
    unsafe SSL_CTX_free(client)
  }

  /// The material of every certificate, with the faults of all.
  private static func load(
    _ configuration: TLSConfiguration, isChecked: Bool
  ) throws(TLSConfigurationError) -> (TLSMaterial, [TLSMaterial]) {
    var faults: [TLSConfigurationError.Fault] = []
    var loaded: [TLSMaterial] = []
    for one in [configuration] + configuration.furtherIdentities.map(configuration.with) {
      do {
        loaded.append(try TLSMaterial(one, isChecked: isChecked))
      } catch {
        faults += error.faults.filter { !faults.contains($0) }
      }
    }
    guard faults.isEmpty, let main = loaded.first else { throw TLSConfigurationError(faults) }
    return (main, Array(loaded.dropFirst()))
  }

  /// The roots without the lists, which would have every signer of status looked up in one.
  private static func makeStatusRoots(
    _ material: TLSMaterial, _ configuration: TLSConfiguration
  ) throws(TLSConfigurationError) -> OpenSSLHandle {
    guard let store = unsafe X509_STORE_new() else { throw failure("the store") }
    for root in material.roots { unsafe X509_STORE_add_cert(store, root.pointer) }
    if configuration.usesSystemRoots { unsafe X509_STORE_set_default_paths(store) }
    return unsafe OpenSSLHandle(store) { unsafe X509_STORE_free($0) }
  }

  /// How long the status that is stapled is good, in seconds since 1970; `nil` without one.
  package var statusNextUpdate: Int64? { mainStatus?.nextUpdate }

  private static func makeServer(
    _ material: TLSMaterial, _ configuration: TLSConfiguration, _ isChecked: Bool
  ) throws(TLSConfigurationError) -> OpenSSLHandle {
    let context = unsafe try makeContext(
      TLS_server_method(), material, configuration, isChecked)
    unsafe SSL_CTX_set_verify(context, configuration.clientCertificates.verifyMode, nil)
    for root in material.roots { unsafe SSL_CTX_add_client_CA(context, root.pointer) }
    unsafe SSL_CTX_set_alpn_select_cb(context, selectApplicationProtocol, nil)
    return unsafe OpenSSLHandle(context) { unsafe SSL_CTX_free($0) }
  }

  /// What a client gets that asks for a host.
  enum Identity {
    case main
    case other(OpenSSLHandle)
    case refused
  }

  func identity(for name: String) -> Identity {
    switch chooser?(name) ?? .byName {
    case .main: return .main
    case .refuse: return .refused
    case .further(let position):
      guard further.indices.contains(position) else { return .main }
      return .other(further[position].context)
    case .byName:
      let one = further.first { one in
        one.patterns.contains { PeerVerification.dnsMatches($0, name) }
      }
      return one.map { .other($0.context) } ?? .main
    }
  }

  /// The status to staple on connections of a server's context.
  func status(for context: OpaquePointer?) -> StapledStatus? {
    unsafe context == server ? mainStatus : nil
  }

  private static func makeContext(
    _ method: OpaquePointer?, _ material: TLSMaterial, _ configuration: TLSConfiguration,
    _ isChecked: Bool
  ) throws(TLSConfigurationError) -> OpaquePointer {
    guard let context = unsafe SSL_CTX_new(method) else { throw failure("SSL_CTX_new") }
    do throws(TLSConfigurationError) {
      try unsafe apply(material, configuration, isChecked, to: context)
      return unsafe context
    } catch {
      unsafe SSL_CTX_free(context)
      throw error
    }
  }

  private static func apply(
    _ material: TLSMaterial, _ configuration: TLSConfiguration, _ isChecked: Bool,
    to context: OpaquePointer
  ) throws(TLSConfigurationError) {
    // What the configuration's chain holds is sent, and nothing that OpenSSL finds among the roots.
    unsafe grenache_ctx_set_mode(
      context,
      grenache_mode_release_buffers | grenache_mode_moving_write_buffer
        | grenache_mode_no_auto_chain)
    unsafe SSL_CTX_set_options(
      context,
      grenache_option_no_renegotiation | grenache_option_no_compression
        | (configuration.sessions == nil ? grenache_option_no_ticket : 0))
    unsafe SSL_CTX_set_num_tickets(context, 0)
    unsafe grenache_ctx_session_cache_off(context)
    if material.keyLog != nil { unsafe SSL_CTX_set_keylog_callback(context, logKeys) }
    let faults = unsafe configuration.protocols.apply(to: context)
    guard faults.isEmpty else { throw TLSConfigurationError(faults) }
    // After the cipher list, which may hold a level, too.
    let level = unsafe max(SSL_CTX_get_security_level(context), securityLevelMin)
    unsafe SSL_CTX_set_security_level(context, isChecked ? level : 0)
    if let leaf = material.chain.first, let key = material.key {
      guard unsafe SSL_CTX_use_certificate(context, leaf.pointer) == 1,
        unsafe SSL_CTX_use_PrivateKey(context, key.pointer) == 1
      else { throw failure("the certificate or key") }
    }
    for certificate in material.chain.dropFirst() {
      guard unsafe grenache_ctx_add_chain(context, certificate.pointer) == 1 else {
        throw failure("the chain")
      }
    }
    if configuration.usesSystemRoots {
      guard unsafe SSL_CTX_set_default_verify_paths(context) == 1 else {
        throw failure("the system's trust store")
      }
    }
    guard let store = unsafe SSL_CTX_get_cert_store(context) else { throw failure("the store") }
    for root in material.roots { unsafe X509_STORE_add_cert(store, root.pointer) }
    for list in material.revocationLists { unsafe X509_STORE_add_crl(store, list.pointer) }
    if !material.revocationLists.isEmpty {
      unsafe X509_STORE_set_flags(store, UInt(X509_V_FLAG_CRL_CHECK))
    }
    unsafe SSL_CTX_set_cert_verify_callback(context, verifyPeer, nil)
  }

  private static func failure(_ what: String) -> TLSConfigurationError {
    let reasons = takeOpenSSLReasons().joined(separator: "; ")
    return TLSConfigurationError([
      TLSConfigurationError.Fault(
        source: what, reason: "was not accepted by OpenSSL (\(reasons))",
        remedy: "Check OpenSSL's security level and providers.")
    ])
  }
}

extension TLSConfiguration.ClientCertificates {
  fileprivate var verifyMode: Int32 {
    switch self {
    case .required: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    case .optional: SSL_VERIFY_PEER
    case .none: SSL_VERIFY_NONE
    }
  }
}

/// Chooses `http/1.1`; a client that offers only other protocols is refused (RFC 7301 §3.2).
private func selectApplicationProtocol(
  _: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
  _ chosenCount: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?,
  _ offeredCount: UInt32, _: UnsafeMutableRawPointer?
) -> Int32 {
  let bytes = unsafe UnsafeBufferPointer(start: offered, count: Int(offeredCount))
  let wanted = TLSSnapshot.applicationProtocol
  var index = 0
  while index < bytes.count {
    let count = Int(unsafe bytes[index])
    let start = index + 1
    guard start + count <= bytes.count else { break }
    if unsafe bytes[start..<(start + count)].elementsEqual(wanted) {
      unsafe chosen?.pointee = unsafe bytes.baseAddress.map { unsafe $0 + start }
      unsafe chosenCount?.pointee = UInt8(count)
      return SSL_TLSEXT_ERR_OK
    }
    index = start + count
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL
}

/// Verifies the peer's chain, and then, on the same flight, whether it is who was meant: a client
/// sends nothing that follows, and no byte of a request, to anybody else.
private func verifyPeer(_ store: OpaquePointer?, _: UnsafeMutableRawPointer?) -> Int32 {
  guard let store = unsafe store, let ssl = unsafe grenache_store_ctx_ssl(store) else { return 0 }
  return unsafe TLSEngine.of(ssl, otherwise: 0) { engine in unsafe engine.verify(store) ? 1 : 0 }
}

/// Chooses the certificate of the name that a client asks for.
private func chooseIdentity(
  _ ssl: OpaquePointer?, _: UnsafeMutablePointer<Int32>?, _: UnsafeMutableRawPointer?
) -> Int32 {
  guard let ssl = unsafe ssl,
    let name = unsafe SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
  else { return grenache_server_name_ok }
  let text = unsafe String(cString: name)
  return unsafe TLSEngine.of(ssl, otherwise: grenache_server_name_ok) { engine in
    switch engine.snapshot.identity(for: text) {
    case .main: return grenache_server_name_ok
    case .refused: return grenache_server_name_refused
    case .other(let context):
      unsafe SSL_set_SSL_CTX(ssl, context.pointer)
      return grenache_server_name_ok
    }
  }
}
