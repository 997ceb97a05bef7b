internal import COpenSSL
internal import Synchronization

/// The chains that one snapshot has found good: who resumes a session, or has several connections looked at
/// again, is not verified anew each time.
///
/// A verdict counts for the very same certificates, on the same side of a connection, as long as nothing
/// but the time has changed and no certificate or revocation list ends or begins with it. Roots, lists and
/// rules belong to the snapshot: another one begins without verdicts.
final class VerifiedChains: Sendable {
  /// How many chains are known at the most; with one more, all are forgotten.
  static let chainsMax = 1_024
  /// Longer chains, in bytes of DER, are verified each time.
  static let chainBytesMax = 16 << 10

  /// What has to be the same: an authority may vouch for servers and not for clients.
  private struct Key: Hashable {
    var chain: [[UInt8]]
    var side: TLSError.Side
  }

  private struct Verdict {
    var identity: PeerIdentity
    /// In seconds since 1970, the end excluded.
    var validity: Range<Int64>
  }

  private let verdicts = Mutex<[Key: Verdict]>([:])
  /// When a revocation list ends or begins to count, in seconds since 1970; empty without lists, `nil`
  /// where the system may add certificates and lists at any time: then nothing is kept.
  private let changes: [Int64]?

  init(changes: [Int64]?) {
    self.changes = changes
  }

  var count: Int { verdicts.withLock { $0.count } }

  /// Who `chain` belongs to, if it has been found good and still is.
  ///
  /// - Parameter now: in seconds since 1970.
  func identity(of chain: [[UInt8]], side: TLSError.Side, at now: Int64) -> PeerIdentity? {
    let key = Key(chain: chain, side: side)
    return verdicts.withLock { verdicts in
      guard let known = verdicts[key] else { return nil }
      if known.validity.contains(now) { return known.identity }
      // Over, or the clock has been set back: verified anew, it may be noted again.
      verdicts[key] = nil
      return nil
    }
  }

  /// Notes that the chain of `identity` has been found good.
  ///
  /// - Parameter now: in seconds since 1970.
  func note(_ identity: PeerIdentity, side: TLSError.Side, at now: Int64) {
    guard let changes, identity.chain.reduce(0, { $0 + $1.count }) <= Self.chainBytesMax else {
      return
    }
    let end = changes.reduce(identity.validUntil) { $1 > now ? min($0, $1) : $0 }
    guard now < end else { return }
    let key = Key(chain: identity.chain, side: side)
    verdicts.withLock { verdicts in
      if verdicts.count >= Self.chainsMax, verdicts[key] == nil { verdicts = [:] }
      verdicts[key] = Verdict(identity: identity, validity: now..<end)
    }
  }
}

extension VerifiedChains {
  /// - Parameter lists: the revocation lists (`X509_CRL`) that chains are held against.
  convenience init(lists: [OpenSSLHandle], usesSystemRoots: Bool) {
    let times = lists.flatMap { list in
      unsafe [X509_CRL_get0_lastUpdate(list.pointer), X509_CRL_get0_nextUpdate(list.pointer)]
        .compactMap { time in unsafe time.map { unsafe grenache_time($0) } }
    }
    self.init(changes: usesSystemRoots ? nil : times)
  }
}
