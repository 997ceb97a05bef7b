internal import COpenSSL
internal import Synchronization

/// The chains that one snapshot has found good: who resumes a session, or has several connections looked at
/// again, is not verified anew each time.
///
/// A verdict counts for the very same certificates, on the same side of a connection, until one of them, or
/// a revocation list, ends, or another list begins to count. Roots, lists and rules belong to the snapshot:
/// another one begins without verdicts. What is kept is of peers that have proved to have the certificate's
/// key; nobody else can fill it.
final class VerifiedChains: Sendable {
  /// How many chains are known at the most, which are 3 MiB of ordinary ones and 16 MiB of the longest; those that
  /// nobody has asked for longest go, half of all at a time.
  static let chainsMax = 1_024
  /// Longer chains, in bytes of DER, are verified each time.
  static let chainBytesMax = 16 << 10

  /// What has to be the same: an authority may vouch for servers and not for clients.
  private struct Key: Hashable {
    var digest: [UInt8]
    var side: TLSError.Side

    init(_ chain: [[UInt8]], _ side: TLSError.Side) {
      var bytes: [UInt8] = []
      for certificate in chain {
        bytes += Array("\(certificate.count) ".utf8)
        bytes += certificate
      }
      digest = Digest.sha256(bytes)
      self.side = side
    }
  }

  private struct Verdict {
    var identity: PeerIdentity
    /// In seconds since 1970, the end excluded.
    var validity: Range<Int64>
  }

  /// Verdicts that have been used lately, and those before them.
  private struct Generations {
    var recent: [Key: Verdict] = [:]
    var older: [Key: Verdict] = [:]
    var isClosed = false

    mutating func keep(_ verdict: Verdict, for key: Key) {
      guard !isClosed else { return }
      recent[key] = verdict
      if recent.count >= VerifiedChains.chainsMax / 2 { (recent, older) = ([:], recent) }
    }
  }

  private let generations = Mutex(Generations())
  /// When a revocation list ends or begins to count, in seconds since 1970; empty without lists, `nil`
  /// where the system may add certificates and lists at any time: then nothing is kept.
  private let changes: [Int64]?

  init(changes: [Int64]?) {
    self.changes = changes
  }

  /// How many verdicts are kept; those that are kept twice count twice.
  var count: Int { generations.withLock { $0.recent.count + $0.older.count } }

  /// Who `chain` belongs to, if it has been found good and still is.
  ///
  /// - Parameter now: in seconds since 1970.
  func identity(of chain: [[UInt8]], side: TLSError.Side, at now: Int64) -> PeerIdentity? {
    let key = Key(chain, side)
    return generations.withLock { generations in
      if let known = generations.recent[key] {
        return known.validity.contains(now) ? known.identity : nil
      }
      guard let known = generations.older[key], known.validity.contains(now) else { return nil }
      generations.keep(known, for: key)
      return known.identity
    }
  }

  /// Notes that the chain of `identity` has been found good.
  ///
  /// - Parameter now: when that was, in seconds since 1970.
  func note(_ identity: PeerIdentity, side: TLSError.Side, at now: Int64) {
    guard let changes, identity.chain.reduce(0, { $0 + $1.count }) <= Self.chainBytesMax else {
      return
    }
    let end = changes.reduce(identity.validUntil) { $1 > now ? min($0, $1) : $0 }
    guard now < end else { return }
    let key = Key(identity.chain, side)
    let verdict = Verdict(identity: identity, validity: now..<end)
    generations.withLock { $0.keep(verdict, for: key) }
  }

  /// Forgets all, and keeps nothing from now on: connections may hold on to a snapshot that nobody asks any more.
  func close() {
    generations.withLock { $0 = Generations(isClosed: true) }
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
