internal import COpenSSL

/// Resumption (RFC 8446 §2.2). A ticket carries the peer's whole chain, so that whoever opens it can
/// verify the peer again.
extension TLSEngine {
  /// More than this of certificates above the leaf is not put into a ticket, which then resumes
  /// nothing.
  static let ticketChainBytesMax = 8 << 10

  /// A session of which more than this would be kept is not kept.
  static let keptBytesMax = 16 << 10
  /// How many tickets of one handshake are looked at; a client of ours offers one.
  static let ticketsMax = 4

  /// Offers a session with the peer, if one is known whom this side would still accept.
  func offerSession(_ key: TLSSessionCache.Key) {
    guard let lifetime = snapshot.sessions?.lifetime.components.seconds,
      let entry = context.sessions.take(key, at: context.clock(), lifetime: lifetime),
      let peer = try? snapshot.verify(entry.peer.chain, side: .client, stage: .handshake),
      verification.accepts(peer),
      unsafe SSL_set_session(ssl, entry.session.pointer) == 1
    else { return ERR_clear_error() }
    resumption = Resumption(peer: peer, beganAt: entry.beganAt, goodUntil: entry.goodUntil)
  }

  /// Keeps a session that the server has offered.
  func sessionOffered(_ session: OpaquePointer) {
    guard let sessionKey, let sessions = snapshot.sessions, let peer = verifiedIdentity,
      unsafe SSL_version(ssl) == TLS1_3_VERSION, unsafe SSL_SESSION_is_resumable(session) == 1
    else { return }
    var ticketBytes = 0
    unsafe SSL_SESSION_get0_ticket(session, nil, &ticketBytes)
    let chainBytes = peer.chain.reduce(0) { $0 + $1.count }
    // A copy: this connection goes on using, and at its end spoils, the session itself.
    guard ticketBytes + chainBytes <= Self.keptBytesMax,
      let copy = unsafe SSL_SESSION_dup(session)
    else { return }
    context.sessions.store(
      TLSSessionCache.Entry(
        session: unsafe OpenSSLHandle(copy) { unsafe SSL_SESSION_free($0) }, peer: peer,
        beganAt: beganAt, goodUntil: isResumed ? resumption?.goodUntil ?? 0 : statusEnd),
      for: sessionKey, at: context.clock(), within: sessions)
  }

  private var isResumed: Bool { unsafe SSL_session_reused(ssl) == 1 }

  /// When the peer last proved who it is, in seconds since 1970: resuming again and again does not
  /// put off the next full handshake.
  private var beganAt: Int64 { (isResumed ? resumption?.beganAt : nil) ?? context.clock() }

  /// Puts into a ticket what is needed to verify the client again, beside its certificate.
  func describePeer(in session: OpaquePointer) {
    let issuers = (verifiedIdentity?.chain ?? []).dropFirst().flatMap(\.self)
    guard issuers.count <= Self.ticketChainBytesMax else { return }
    let began = UInt64(bitPattern: beganAt)
    let data = (0..<8).map { UInt8(truncatingIfNeeded: began >> (8 * $0)) } + issuers
    _ = unsafe SSL_SESSION_set1_ticket_appdata(session, data, data.count)
  }

  /// Whether one more ticket of this handshake is looked at: each costs time, and a stranger may send
  /// thousands.
  func mayOpenTicket() -> Bool {
    ticketsSeen += 1
    return ticketsSeen <= Self.ticketsMax
  }

  /// Whether the client of a ticket is one that would be accepted now.
  func acceptsSession(_ session: OpaquePointer) -> Bool {
    resumption = nil
    var pointer: UnsafeMutableRawPointer?
    var size = 0
    guard unsafe SSL_SESSION_get0_ticket_appdata(session, &pointer, &size) == 1, size >= 8 else {
      return false
    }
    let data = unsafe UnsafeRawBufferPointer(start: pointer, count: size)
    let began = Int64(bitPattern: (0..<8).reduce(0) { unsafe $0 | UInt64(data[$1]) << (8 * $1) })
    let age = context.clock().subtractingReportingOverflow(began)
    guard !age.overflow, age.partialValue < snapshot.ticketKeys.period else { return false }
    var peer: PeerIdentity?
    if let leaf = unsafe SSL_SESSION_get0_peer(session) {
      var chain = unsafe [certificateDER(leaf)]
      guard snapshot.clientCertificates != .none,
        unsafe Self.split(UnsafeRawBufferPointer(rebasing: data[8...]), into: &chain)
      else { return false }
      peer = try? snapshot.verify(chain, side: .server, stage: .handshake)
      guard peer != nil else { return false }
    } else if snapshot.clientCertificates == .required {
      return false
    }
    resumption = Resumption(peer: peer, beganAt: began, goodUntil: .max)
    return true
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

extension TLSEngine {
  /// What a session that may be resumed says.
  struct Resumption {
    var peer: PeerIdentity?
    /// When the full handshake was that it goes back to, in seconds since 1970.
    var beganAt: Int64
    /// How long the server's stapled status is good, in seconds since 1970.
    var goodUntil: Int64
  }
}

extension TLSSnapshot {
  /// Has sessions resumed on a server's context.
  func resumeSessions(on context: OpaquePointer) {
    unsafe SSL_CTX_set_num_tickets(context, 1)
    // With other certificates a server resumes nothing of before: the new ones are to be seen.
    _ = unsafe SSL_CTX_set_session_id_context(
      context, identitiesDigest, UInt32(identitiesDigest.count))
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
      guard engine.mayOpenTicket() else {
        engine.refuseTickets()
        return -1
      }
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
    unsafe engine.sessionOffered(session)
    return 0  // the reference stays OpenSSL's
  }
}
