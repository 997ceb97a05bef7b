internal import COpenSSL

/// Verification outside a handshake: of peers of open connections, and of those that resume a session.
extension TLSSnapshot {
  /// Verifies a peer that a handshake has accepted, again: against these roots, revocation lists and
  /// rules, and the time as it is now.
  ///
  /// - Parameter side: which end of the connection this one is.
  /// - Returns: what is wrong; `nil` for a peer that would be accepted again.
  package func recheck(_ peer: PeerIdentity, side: TLSError.Side) -> TLSError? {
    do {
      _ = try verify(peer.chain, side: side, stage: .recheck)
      return nil
    } catch {
      return error
    }
  }

  /// Verifies a chain, leaf first, as that of the peer of `side`, which has shown that it has its key; what
  /// has been found good before need not be (`VerifiedChains`).
  package func verify(
    _ chain: [[UInt8]], side: TLSError.Side, stage: TLSError.Stage
  ) throws(TLSError) -> PeerIdentity {
    let now = wallClock()
    let identity: PeerIdentity
    if let known = verified.identity(of: chain, side: side, at: now) {
      identity = known
    } else {
      identity = try verifyAnew(chain, side: side, stage: stage)
      verified.note(identity, side: side, at: now)
    }
    guard side == .client || clientVerification.accepts(identity) else {
      throw TLSError(identity, isNot: clientVerification, side: side, stage: stage)
    }
    return identity
  }

  private func verifyAnew(
    _ chain: [[UInt8]], side: TLSError.Side, stage: TLSError.Stage
  ) throws(TLSError) -> PeerIdentity {
    guard let stack = unsafe grenache_chain_new() else {
      throw TLSError(.internalError, side: side, stage: stage)
    }
    defer { unsafe grenache_chain_free(stack) }
    for der in chain {
      guard unsafe grenache_chain_push_der(stack, der, der.count) == 1 else {
        throw TLSError(.badCertificate, side: side, stage: stage)
      }
    }
    guard let leaf = unsafe grenache_chain_at(stack, 0) else {
      throw TLSError(.noCertificate, side: side, stage: stage)
    }
    var verified: OpaquePointer?
    var fault = unsafe grenache_chain_fault()
    let code = unsafe grenache_verify_chain(
      server, stack, side == .server ? 1 : 0, &verified, &fault)
    defer {
      unsafe grenache_chain_free(verified)
      unsafe X509_free(fault.certificate)
    }
    ERR_clear_error()
    let identity = unsafe PeerIdentity(
      certificate: leaf, chain: chain, issuers: Self.issuers(in: verified))
    guard code == X509_V_OK else {
      var error = TLSError(TLSError.Code(verifyCode: code), side: side, stage: stage)
      error.verifyCode = Int(code)
      error.verifyText = unsafe String(cString: X509_verify_cert_error_string(Int(code)))
      error.depth = unsafe Int(fault.depth)
      let certificate = unsafe fault.certificate ?? leaf
      error.subject = unsafe nameText(unsafe X509_get_subject_name(certificate))
      error.issuer = unsafe nameText(unsafe X509_get_issuer_name(certificate))
      throw error
    }
    return identity
  }

  /// The authorities of a verified chain.
  static func issuers(in verified: OpaquePointer?) -> [OpaquePointer] {
    unsafe (1..<max(1, unsafe grenache_chain_count(verified))).compactMap { index in
      unsafe grenache_chain_at(verified, Int32(index))
    }
  }
}

extension TLSError {
  /// `identity` has a good certificate, but is not who was meant.
  init(
    _ identity: PeerIdentity, isNot verification: PeerVerification, side: Side, stage: Stage
  ) {
    self.init(.nameMismatch, side: side, stage: stage)
    expectedNames = verification.expectedNames
    presentedNames = identity.names.map(\.description)
    subject = identity.subject
    issuer = identity.issuer
  }
}
