internal import COpenSSL
internal import Synchronization

/// The sessions that a client may resume. Each is offered once (RFC 8446 §C.4): whoever watches the
/// network cannot tell from a ticket that two connections are one client's.
final class TLSSessionCache: Sendable {
  /// What has to be the same for a session to be offered.
  struct Key: Hashable, Sendable {
    /// The address that is connected to.
    var destination: String
    var serverName: String?
    var verification: PeerVerification
    /// SHA-256 of the certificate that this side presented.
    var ownFingerprint: [UInt8]
  }

  /// A session and whom it is with.
  struct Entry: Sendable {
    var session: OpenSSLHandle
    var peer: PeerIdentity
    /// In seconds since 1970.
    var storedAt: Int64
  }

  /// How many connections to one destination may resume at the same time.
  static let perDestinationMax = 4

  private let entries = Mutex<[Key: [Entry]]>([:])

  /// Keeps a session; for one too many the oldest goes.
  func store(_ entry: Entry, for key: Key, max: Int) {
    guard max > 0 else { return }
    entries.withLock { entries in
      entries[key, default: []].append(entry)
      if let count = entries[key]?.count, count > Self.perDestinationMax {
        entries[key]?.removeFirst()
      } else if entries.values.reduce(0, { $0 + $1.count }) > max {
        dropOldest(&entries)
      }
    }
  }

  /// The newest session for `key` that was stored at `oldest` or later; those before it are dropped.
  func take(_ key: Key, storedSince oldest: Int64) -> Entry? {
    entries.withLock { entries in
      guard var known = entries[key] else { return nil }
      known.removeAll { $0.storedAt < oldest }
      let entry = known.popLast()
      entries[key] = known.isEmpty ? nil : known
      return entry
    }
  }

  var count: Int { entries.withLock { $0.values.reduce(0) { $0 + $1.count } } }

  private func dropOldest(_ entries: inout [Key: [Entry]]) {
    let oldest = entries.min { left, right in
      (left.value.first?.storedAt ?? 0) < (right.value.first?.storedAt ?? 0)
    }
    guard let key = oldest?.key else { return }
    entries[key]?.removeFirst()
    if entries[key]?.isEmpty == true { entries[key] = nil }
  }
}
