internal import COpenSSL

/// A configuration as it was when it was loaded and checked: what connections are made from.
///
/// It does not change after it has been made, and may be used from any thread. Connections keep the
/// one that they began with.
@safe
package final class TLSSnapshot: Sendable {
  /// The only application protocol that is spoken (RFC 7301).
  static let applicationProtocol = Array("http/1.1".utf8)

  nonisolated(unsafe) let server: OpaquePointer
  nonisolated(unsafe) let client: OpaquePointer
  /// The end of the leaf's validity, in seconds since 1970.
  package let notAfter: Int64
  /// SHA-256 of the leaf.
  package let fingerprintSHA256: [UInt8]

  /// Loads and checks `configuration`.
  ///
  /// - Parameter isChecked: whether what is wrong with it is found; tests present to their peers what
  ///   no checked configuration would.
  /// - Throws: `TLSConfigurationError` with every fault that was found.
  init(
    _ configuration: TLSConfiguration, isChecked: Bool = true
  ) throws(TLSConfigurationError) {
    let material = try TLSMaterial(configuration, isChecked: isChecked)
    let leaf = material.chain.first
    notAfter = leaf.map { unsafe grenache_time(X509_get0_notAfter($0.pointer)) } ?? 0
    fingerprintSHA256 = leaf.map { unsafe Digest.sha256(certificateDER($0.pointer)) } ?? []
    unsafe server = try Self.makeContext(TLS_server_method(), material, configuration, isChecked)
    do throws(TLSConfigurationError) {
      unsafe client = try Self.makeContext(TLS_client_method(), material, configuration, isChecked)
    } catch {
      unsafe SSL_CTX_free(server)
      throw error
    }
    unsafe SSL_CTX_set_verify(server, configuration.clientCertificates.verifyMode, nil)
    unsafe SSL_CTX_set_verify(client, SSL_VERIFY_PEER, nil)
    for root in material.roots { unsafe SSL_CTX_add_client_CA(server, root.pointer) }
    unsafe SSL_CTX_set_alpn_select_cb(server, selectApplicationProtocol, nil)
  }

  deinit {
    unsafe SSL_CTX_free(server)
    unsafe SSL_CTX_free(client)
  }

  // MARK: Peers of connections that are open

  /// Verifies a peer that a handshake has accepted, anew: against these roots, revocation lists, and
  /// the time as it is now.
  ///
  /// - Parameter side: which end of the connection this one is.
  /// - Returns: what is wrong; `nil` for a peer that would be accepted again.
  package func recheck(_ peer: PeerIdentity, side: TLSError.Side) -> TLSError? {
    guard let chain = unsafe grenache_chain_new() else {
      return TLSError(.internalError, side: side, stage: .recheck)
    }
    defer { unsafe grenache_chain_free(chain) }
    for der in peer.chain {
      let isAdded = unsafe der.withUnsafeBufferPointer { bytes in
        unsafe grenache_chain_push_der(chain, bytes.baseAddress, bytes.count) == 1
      }
      guard isAdded else { return TLSError(.badCertificate, side: side, stage: .recheck) }
    }
    let code = unsafe grenache_verify_chain(server, chain, side == .server ? 1 : 0)
    ERR_clear_error()
    guard code != X509_V_OK else { return nil }
    var error = TLSError(TLSError.Code(verifyCode: code), side: side, stage: .recheck)
    error.verifyCode = Int(code)
    error.verifyText = unsafe String(cString: X509_verify_cert_error_string(Int(code)))
    error.subject = peer.subject
    error.issuer = peer.issuer
    return error
  }

  private static func makeContext(
    _ method: OpaquePointer?, _ material: TLSMaterial, _ configuration: TLSConfiguration,
    _ isChecked: Bool
  ) throws(TLSConfigurationError) -> OpaquePointer {
    guard let context = unsafe SSL_CTX_new(method) else { throw failure("SSL_CTX_new") }
    if !isChecked { unsafe SSL_CTX_set_security_level(context, 0) }
    do throws(TLSConfigurationError) {
      try unsafe apply(material, configuration, to: context)
      return unsafe context
    } catch {
      unsafe SSL_CTX_free(context)
      throw error
    }
  }

  private static func apply(
    _ material: TLSMaterial, _ configuration: TLSConfiguration, to context: OpaquePointer
  ) throws(TLSConfigurationError) {
    // What the configuration's chain holds is sent, and nothing that OpenSSL finds among the roots.
    unsafe grenache_ctx_set_mode(
      context,
      grenache_mode_release_buffers | grenache_mode_moving_write_buffer
        | grenache_mode_no_auto_chain)
    unsafe SSL_CTX_set_options(
      context,
      grenache_option_no_renegotiation | grenache_option_no_compression
        | grenache_option_no_ticket)
    unsafe SSL_CTX_set_num_tickets(context, 0)
    unsafe grenache_ctx_session_cache_off(context)
    let faults = unsafe configuration.protocols.apply(to: context)
    guard faults.isEmpty else { throw TLSConfigurationError(faults) }
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
  guard let store = unsafe store, let ssl = unsafe grenache_store_ctx_ssl(store),
    let engine = unsafe SSL_get_ex_data(ssl, 0)
  else { return 0 }
  return unsafe Unmanaged<TLSEngine>.fromOpaque(engine)._withUnsafeGuaranteedRef { engine in
    unsafe engine.verify(store) ? 1 : 0
  }
}
