internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTLS

extension DHTCryptography {
  static let openSSL = DHTCryptography(sha1: Digest.sha1) { signature, message, publicKey in
    Ed25519.isSignature(signature, of: message, by: publicKey)
  }
}

extension DHTAddress {
  init(_ address: SocketAddress) {
    switch address.unmapped.host {
    case .ipv4(let a, let b, let c, let d):
      let ip = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
      self.init(ip: ip, port: address.port)
    case .ipv6(let high, let low, _):
      self.init(host: DHTHost(high: high, low: low), port: address.port)
    }
  }
}

extension SocketAddress {
  init(_ address: DHTAddress) {
    switch address.family {
    case .ipv4:
      let ip = address.ip
      self.init(
        host: .ipv4(
          UInt8(truncatingIfNeeded: ip >> 24), UInt8(truncatingIfNeeded: ip >> 16),
          UInt8(truncatingIfNeeded: ip >> 8), UInt8(truncatingIfNeeded: ip)),
        port: address.port)
    case .ipv6:
      self.init(
        host: .ipv6(high: address.host.high, low: address.host.low, scope: 0), port: address.port)
    }
  }
}
