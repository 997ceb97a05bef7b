internal import COpenSSL
internal import Glibc

/// The keys that a server seals its session tickets with: a new one for each period, derived from a
/// secret, so that servers which share it need not talk about keys.
struct TLSTicketKeys: Hashable, Sendable {
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

  init(secret: [UInt8], lifetime: Duration) {
    self.secret = secret
    period = max(1, lifetime.components.seconds)
  }

  /// What new tickets are sealed with at `now`, in seconds since 1970.
  func sealing(at now: Int64) -> Key { key(now / period) }

  /// The key of that name, if it is that of this period, of the one before, or of the next, which a
  /// server whose clock is ahead may have begun.
  func opening(_ name: [UInt8], at now: Int64) -> Key? {
    let current = now / period
    for period in [current, current - 1, current + 1] where self.name(period) == name {
      return key(period)
    }
    return nil
  }

  private func key(_ period: Int64) -> Key {
    Key(
      name: name(period), cipher: derive("grenache ticket cipher", period),
      mac: derive("grenache ticket mac", period))
  }

  private func name(_ period: Int64) -> [UInt8] {
    Array(derive("grenache ticket name", period).prefix(16))
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
