internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// Who asks, as far as limits are concerned: a certificate's key, whatever addresses it comes from and
/// however often the certificate is renewed, so that the many behind one NAT do not starve one another;
/// or the address of who has none.
enum GrapeCaller: Hashable, Sendable {
  /// SHA-256 of the public key.
  case certificate([UInt8])
  /// Of IPv6 a /48, which one party easily has.
  case address(DHTHost)

  init(_ request: HTTPServerRequest) {
    self.init(request.identity?.publicKeySHA256, at: request.remoteAddress)
  }

  init(_ publicKeySHA256: [UInt8]?, at address: SocketAddress) {
    if let publicKeySHA256 {
      self = .certificate(publicKeySHA256)
    } else {
      self = .address(DHTAddress(address).host.owner)
    }
  }

  /// Whose announcements and values are counted; `nil` for whoever is on this machine without a
  /// certificate, which all its services may be.
  var counted: DHTCaller? {
    switch self {
    case .certificate(let digest): DHTCaller(digest)
    case .address(let host):
      host.isLoopback ? nil : DHTCaller(DHTAddress(host: host, port: 0).compact)
    }
  }
}
