/// Tokens that bind an announcement to the address that asked before (BEP 5).
struct TokenIssuer: Sendable {
  private var current: [UInt8]
  private var previous: [UInt8]
  private var nextChange: Duration
  private let interval: Duration
  private let sha1: @Sendable ([UInt8]) -> [UInt8]

  init(
    interval: Duration, now: Duration, sha1: @escaping @Sendable ([UInt8]) -> [UInt8],
    using generator: inout some RandomNumberGenerator
  ) {
    self.interval = interval
    self.sha1 = sha1
    nextChange = now + interval
    current = Self.secret(using: &generator)
    previous = Self.secret(using: &generator)
  }

  mutating func advance(to now: Duration, using generator: inout some RandomNumberGenerator) {
    guard now >= nextChange else { return }
    previous = current
    current = Self.secret(using: &generator)
    nextChange = now + interval
  }

  func token(for host: DHTHost) -> [UInt8] { token(for: host, current) }

  /// Whether this node gave the token to that address, at most two intervals ago.
  func isValid(_ token: [UInt8], from host: DHTHost) -> Bool {
    token == self.token(for: host, current) || token == self.token(for: host, previous)
  }

  private func token(for host: DHTHost, _ secret: [UInt8]) -> [UInt8] {
    var bytes = secret
    host.append(to: &bytes)
    return sha1(bytes)
  }

  private static func secret(using generator: inout some RandomNumberGenerator) -> [UInt8] {
    (0..<20).map { _ in UInt8.random(in: 0...255, using: &generator) }
  }
}
