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
    /// When the full handshake was that it goes back to, in seconds since 1970.
    var beganAt: Int64
    /// How long the server's stapled status is good, in seconds since 1970.
    var goodUntil: Int64

    func isAlive(at now: Int64, lifetime: Int64) -> Bool {
      let (age, overflow) = now.subtractingReportingOverflow(beganAt)
      return !overflow && age < lifetime && now < goodUntil
    }
  }

  /// How many connections to one destination may resume at the same time.
  static let perDestinationMax = 4

  private let entries = Mutex<[Key: [Entry]]>([:])

  /// Keeps a session; those that are over go, and for one too many the oldest.
  func store(_ entry: Entry, for key: Key, at now: Int64, within limits: TLSSessions) {
    let lifetime = limits.lifetime.components.seconds
    entries.withLock { entries in
      entries[key, default: []].append(entry)
      if let count = entries[key]?.count, count > Self.perDestinationMax {
        entries[key]?.removeFirst()
      }
      guard Self.count(entries) > limits.clientSessionsMax else { return }
      entries = entries.mapValues { $0.filter { $0.isAlive(at: now, lifetime: lifetime) } }
        .filter { !$0.value.isEmpty }
      while Self.count(entries) > max(0, limits.clientSessionsMax) { Self.dropOldest(&entries) }
    }
  }

  /// The newest session for `key` that is not over; those that are go.
  func take(_ key: Key, at now: Int64, lifetime: Int64) -> Entry? {
    entries.withLock { entries in
      guard var known = entries[key] else { return nil }
      known.removeAll { !$0.isAlive(at: now, lifetime: lifetime) }
      let entry = known.popLast()
      entries[key] = known.isEmpty ? nil : known
      return entry
    }
  }

  /// Forgets all.
  func removeAll() { entries.withLock { $0 = [:] } }

  var count: Int { entries.withLock { Self.count($0) } }

  private static func count(_ entries: [Key: [Entry]]) -> Int {
    entries.values.reduce(0) { $0 + $1.count }
  }

  private static func dropOldest(_ entries: inout [Key: [Entry]]) {
    let oldest = entries.min { left, right in
      (left.value.first?.beganAt ?? 0) < (right.value.first?.beganAt ?? 0)
    }
    guard let key = oldest?.key else { return }
    entries[key]?.removeFirst()
    if entries[key]?.isEmpty == true { entries[key] = nil }
  }
}
