internal import COpenSSL

/// Resumption (RFC 8446 §2.2). A ticket carries the peer's whole chain, so that whoever opens it can
/// verify the peer again.
extension TLSEngine {
  /// More than this of certificates above the leaf is not put into a ticket, which then resumes
  /// nothing.
  static let ticketChainBytesMax = 8 << 10

  /// Offers a session with the peer, if one is known whom this side would still accept.
  func offerSession(_ key: TLSSessionCache.Key) {
    guard let lifetime = snapshot.sessions?.lifetime.components.seconds,
      let entry = context.sessions.take(key, storedSince: context.clock() - lifetime),
      snapshot.recheck(entry.peer, side: .client) == nil,
      unsafe SSL_set_session(ssl, entry.session.pointer) == 1
    else { return ERR_clear_error() }
    resumedIdentity = entry.peer
  }

  /// Keeps a session that the server has offered; returns whether the reference has been taken over.
  func sessionOffered(_ session: OpaquePointer) -> Bool {
    guard let sessionKey, let sessions = snapshot.sessions, let peer = verifiedIdentity,
      unsafe SSL_version(ssl) == TLS1_3_VERSION, unsafe SSL_SESSION_is_resumable(session) == 1
    else { return false }
    let handle = unsafe OpenSSLHandle(session) { unsafe SSL_SESSION_free($0) }
    context.sessions.store(
      TLSSessionCache.Entry(session: handle, peer: peer, storedAt: context.clock()),
      for: sessionKey, max: sessions.clientSessionsMax)
    return true
  }

  /// Puts into a ticket what is needed to verify the client again, beside its certificate.
  func describePeer(in session: OpaquePointer) {
    let issuers = (verifiedIdentity?.chain ?? []).dropFirst().flatMap(\.self)
    guard issuers.count <= Self.ticketChainBytesMax else { return }
    _ = unsafe SSL_SESSION_set1_ticket_appdata(session, issuers, issuers.count)
  }

  /// Whether the client of a ticket is one that would be accepted now.
  func acceptsSession(_ session: OpaquePointer) -> Bool {
    resumedIdentity = nil
    guard let leaf = unsafe SSL_SESSION_get0_peer(session) else {
      return snapshot.clientCertificates != .required
    }
    guard snapshot.clientCertificates != .none else { return false }
    var data: UnsafeMutableRawPointer?
    var size = 0
    guard unsafe SSL_SESSION_get0_ticket_appdata(session, &data, &size) == 1 else { return false }
    let issuers = unsafe UnsafeRawBufferPointer(start: data, count: size)
    var chain = unsafe [certificateDER(leaf)]
    guard unsafe Self.split(issuers, into: &chain) else { return false }
    resumedIdentity = try? snapshot.verify(chain, side: .server, stage: .handshake)
    return resumedIdentity != nil
  }

  /// Cuts one certificate after the other off `bytes`: DER says how long it is (X.690 §8.1.3).
  private static func split(_ bytes: UnsafeRawBufferPointer, into chain: inout [[UInt8]]) -> Bool {
    var start = 0
    while start < bytes.count {
      guard bytes.count - start >= 4, unsafe bytes[start] == 0x30, unsafe bytes[start + 1] == 0x82
      else { return false }
      let length = 4 + (unsafe Int(bytes[start + 2]) << 8 | Int(bytes[start + 3]))
      guard length <= bytes.count - start else { return false }
      unsafe chain.append(Array(bytes[start..<(start + length)]))
      start += length
    }
    return true
  }
}

extension TLSSnapshot {
  /// Has sessions resumed on a server's context.
  func resumeSessions(on context: OpaquePointer) {
    unsafe SSL_CTX_set_num_tickets(context, 1)
    // With another certificate a server resumes nothing of before: the new one is to be seen.
    _ = unsafe SSL_CTX_set_session_id_context(
      context, fingerprintSHA256, UInt32(fingerprintSHA256.count))
    unsafe SSL_CTX_set_timeout(context, Int(ticketKeys.period))
    unsafe grenache_ctx_on_ticket_key(context, chooseTicketKey)
    _ = unsafe SSL_CTX_set_session_ticket_cb(context, describePeer, checkPeer, nil)
  }

  /// Has sessions kept on a client's context.
  func keepSessions(on context: OpaquePointer) {
    unsafe grenache_ctx_on_new_session(context, storeSession)
  }
}

/// Sets up the key of a ticket, to seal it or to open it.
private func chooseTicketKey(
  _ ssl: OpaquePointer?, _ name: UnsafeMutablePointer<UInt8>?, _ iv: UnsafeMutablePointer<UInt8>?,
  _ cipher: OpaquePointer?, _ mac: OpaquePointer?, _ seals: Int32
) -> Int32 {
  let none: Int32 = 0
  guard let ssl = unsafe ssl, let name = unsafe name, let iv = unsafe iv,
    unsafe SSL_version(ssl) == TLS1_3_VERSION
  else { return none }
  return unsafe TLSEngine.of(ssl, otherwise: none) { engine in
    let keys = engine.snapshot.ticketKeys
    let now = engine.context.clock()
    let nameBytes = unsafe UnsafeMutableBufferPointer(start: name, count: 16)
    let key: TLSTicketKeys.Key
    if seals == 1 {
      key = keys.sealing(at: now)
      _ = unsafe nameBytes.update(fromContentsOf: key.name)
      guard unsafe RAND_bytes(iv, 16) == 1 else { return -1 }
    } else {
      guard let known = unsafe keys.opening(Array(nameBytes), at: now) else { return none }
      key = known
    }
    let isReady = unsafe grenache_ticket_keys(cipher, mac, key.cipher, key.mac, iv, seals) == 1
    return isReady ? 1 : -1
  }
}

private func describePeer(_ ssl: OpaquePointer?, _: UnsafeMutableRawPointer?) -> Int32 {
  guard let ssl = unsafe ssl, let session = unsafe SSL_get_session(ssl) else { return 1 }
  return unsafe TLSEngine.of(ssl, otherwise: 1) { engine in
    unsafe engine.describePeer(in: session)
    return 1
  }
}

/// A ticket is good for one connection: the client gets another.
private func checkPeer(
  _ ssl: OpaquePointer?, _ session: OpaquePointer?, _: UnsafePointer<UInt8>?, _: Int,
  _ status: SSL_TICKET_STATUS, _: UnsafeMutableRawPointer?
) -> SSL_TICKET_RETURN {
  switch status {
  case SSL_TICKET_SUCCESS, SSL_TICKET_SUCCESS_RENEW:
    guard let ssl = unsafe ssl, let session = unsafe session else {
      return SSL_TICKET_RETURN_IGNORE_RENEW
    }
    return unsafe TLSEngine.of(ssl, otherwise: SSL_TICKET_RETURN_IGNORE_RENEW) { engine in
      unsafe engine.acceptsSession(session)
        ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW
    }
  case SSL_TICKET_EMPTY, SSL_TICKET_NO_DECRYPT:
    return SSL_TICKET_RETURN_IGNORE_RENEW
  default:
    return SSL_TICKET_RETURN_ABORT
  }
}

private func storeSession(_ ssl: OpaquePointer?, _ session: OpaquePointer?) -> Int32 {
  guard let ssl = unsafe ssl, let session = unsafe session else { return 0 }
  return unsafe TLSEngine.of(ssl, otherwise: 0) { engine in
    unsafe engine.sessionOffered(session) ? 1 : 0
  }
}
