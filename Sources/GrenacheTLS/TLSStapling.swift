internal import COpenSSL

/// What a client makes of the certificate status that a server staples (OCSP, RFC 6066 §8, RFC 6960).
public enum TLSStapling: Hashable, Sendable {
  /// A status that is there must be good; one must be there if the certificate says so (RFC 7633).
  case checkedWhenPresent
  /// Who has no good status is refused.
  case required
}

extension TLSEngine {
  /// What is wrong with the status that the server has stapled, or not.
  func statusFailure() -> TLSError? {
    // A resumed session bears none: it is over when the status is that it began with.
    guard unsafe SSL_session_reused(ssl) == 0, let identity = verifiedIdentity else { return nil }
    let chain = unsafe SSL_get0_verified_chain(ssl)
    var bytes: UnsafePointer<UInt8>?
    let count = unsafe grenache_ssl_status(ssl, &bytes)
    guard count > 0, let bytes = unsafe bytes else {
      let leaf = unsafe grenache_chain_at(chain, 0)
      let isMissed =
        snapshot.stapling == .required || (unsafe leaf.map { unsafe grenache_must_staple($0) }) == 1
      return isMissed ? statusError(.revocationUnknown, identity, "none is stapled") : nil
    }
    var next: Int64 = 0
    let status = unsafe grenache_ocsp_status(
      bytes, count, chain, snapshot.statusRoots.pointer,
      SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl)), context.clock(), &next)
    ERR_clear_error()
    switch status {
    case V_OCSP_CERTSTATUS_GOOD:
      statusEnd = next
      return nil
    case V_OCSP_CERTSTATUS_REVOKED: return statusError(.revoked, identity, "revoked")
    default: return statusError(.revocationUnknown, identity, ocspText(status))
    }
  }

  private func statusError(
    _ code: TLSError.Code, _ identity: PeerIdentity, _ what: String
  ) -> TLSError {
    var error = TLSError(code, side: .client, stage: .handshake)
    error.reasons = ["stapled certificate status: \(what)"]
    error.subject = identity.subject
    error.issuer = identity.issuer
    return error
  }
}

/// What a status of `grenache_ocsp_status` says.
func ocspText(_ status: Int32) -> String {
  switch status {
  case V_OCSP_CERTSTATUS_GOOD: "good"
  case V_OCSP_CERTSTATUS_REVOKED: "revoked"
  case V_OCSP_CERTSTATUS_UNKNOWN: "unknown to the responder"
  case Int32(grenache_status_unreadable): "not a successful OCSP response"
  case Int32(grenache_status_unsigned): "not signed by the issuer or who it appointed"
  case Int32(grenache_status_of_another): "of another certificate"
  case Int32(grenache_status_out_of_date): "out of date"
  default: "of an unknown kind"
  }
}

/// The status that a server staples.
struct StapledStatus: Sendable {
  var bytes: [UInt8]
  /// Behind this, in seconds since 1970, it is not sent any more.
  var nextUpdate: Int64

  /// Takes whatever it is: tests present what they must not.
  init(unchecked bytes: [UInt8]) {
    self.bytes = bytes
    nextUpdate = .max
  }

  /// Takes `bytes` if they are a status of the first certificate of `chain`.
  ///
  /// - Throws: what is wrong.
  init(
    _ bytes: [UInt8], chain: [OpenSSLHandle], roots: [OpenSSLHandle], now: Int64
  ) throws(Failure) {
    guard let store = unsafe X509_STORE_new(), let stack = unsafe grenache_chain_new() else {
      throw Failure(reason: "cannot be checked")
    }
    defer {
      unsafe X509_STORE_free(store)
      unsafe grenache_chain_free(stack)
    }
    unsafe X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN))
    for authority in chain.dropFirst() + roots {
      unsafe X509_STORE_add_cert(store, authority.pointer)
    }
    let issuer = (chain.dropFirst() + roots).first { authority in
      chain.first.map {
        unsafe X509_check_issued(authority.pointer, $0.pointer) == X509_V_OK
      } ?? false
    }
    for certificate in [chain.first, issuer].compactMap(\.self) {
      let der = unsafe certificateDER(certificate.pointer)
      _ = unsafe grenache_chain_push_der(stack, der, der.count)
    }
    var next: Int64 = 0
    let status = unsafe grenache_ocsp_status(bytes, bytes.count, stack, store, nil, now, &next)
    ERR_clear_error()
    guard issuer != nil else { throw Failure(reason: "cannot be checked: the issuer is not known") }
    // A status of "revoked" is sent, too: clients are to learn of it. One that is out of date is not
    // sent; it must not keep a new certificate from being loaded.
    let kept = [
      V_OCSP_CERTSTATUS_GOOD, V_OCSP_CERTSTATUS_REVOKED, Int32(grenache_status_out_of_date),
    ]
    guard kept.contains(status) else {
      throw Failure(reason: "is \(ocspText(status))")
    }
    self.bytes = bytes
    nextUpdate = next
  }

  struct Failure: Error {
    var reason: String
  }
}

/// Called on a server to staple, and on a client to check.
func exchangeStatus(_ ssl: OpaquePointer?, _: UnsafeMutableRawPointer?) -> Int32 {
  guard let ssl = unsafe ssl else { return -1 }
  if unsafe SSL_is_server(ssl) == 1 {
    return unsafe TLSEngine.of(ssl, otherwise: SSL_TLSEXT_ERR_NOACK) { engine in
      guard let status = unsafe engine.snapshot.status(for: unsafe SSL_get_SSL_CTX(ssl)),
        status.nextUpdate > engine.context.clock(),
        unsafe grenache_ssl_set_status(ssl, status.bytes, status.bytes.count) == 1
      else { return SSL_TLSEXT_ERR_NOACK }
      return SSL_TLSEXT_ERR_OK
    }
  }
  return unsafe TLSEngine.of(ssl, otherwise: -1) { engine in engine.checkStatus() ? 1 : 0 }
}
