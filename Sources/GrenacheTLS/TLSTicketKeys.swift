internal import COpenSSL
internal import Glibc
internal import Synchronization

/// The keys that a server seals its session tickets with: a new one for each period, derived from a
/// secret, so that servers which share it need not talk about keys.
final class TLSTicketKeys: Sendable {
  /// A key for one period.
  struct Key: Hashable, Sendable {
    /// 16 bytes that say in a ticket which key it is.
    var name: [UInt8]
    var cipher: [UInt8]
    var mac: [UInt8]
  }

  private let secret: [UInt8]
  /// The length of a period in seconds.
  let period: Int64
  /// The keys of the period before the one that is named, of that, and of the next.
  private let derived = Mutex<(period: Int64, keys: [Key])>((.min, []))

  init(secret: [UInt8], lifetime: Duration) {
    self.secret = secret
    period = max(1, lifetime.components.seconds)
  }

  /// What new tickets are sealed with at `now`, in seconds since 1970.
  func sealing(at now: Int64) -> Key { keys(at: now)[1] }

  /// The key of that name, if it is that of this period, of the one before, or of the next, which a
  /// server whose clock is ahead may have begun.
  func opening(_ name: [UInt8], at now: Int64) -> Key? {
    keys(at: now).first { $0.name == name }
  }

  private func keys(at now: Int64) -> [Key] {
    let current = now / period
    return derived.withLock { derived in
      if derived.period != current {
        derived = (current, [key(current - 1), key(current), key(current + 1)])
      }
      return derived.keys
    }
  }

  private func key(_ period: Int64) -> Key {
    Key(
      name: Array(derive("grenache ticket name", period).prefix(16)),
      cipher: derive("grenache ticket cipher", period),
      mac: derive("grenache ticket mac", period))
  }

  /// HMAC-SHA256 of what the key is for and the period (NIST SP 800-108, one block).
  private func derive(_ label: String, _ period: Int64) -> [UInt8] {
    let message = Array("\(label) \(period)".utf8)
    var result = [UInt8](repeating: 0, count: 32)
    let code = unsafe grenache_hmac(secret, secret.count, message, message.count, &result)
    // Without HMAC-SHA256 there is no TLS either.
    precondition(code == 1, "OpenSSL has no HMAC-SHA256")
    return result
  }
}

/// Seconds since 1970.
func wallClock() -> Int64 { Int64(time(nil)) }
