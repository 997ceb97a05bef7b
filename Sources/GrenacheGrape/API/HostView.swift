internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTransport

/// The addresses that the whole world has for this grape's host, as far as they are known.
struct PublicHosts: Hashable, Sendable {
  var ipv4: DHTHost?
  var ipv6: DHTHost?
}

/// Under which address somebody knows the host of this grape. Nobody elsewhere is told a loopback
/// address: there is something else at his own.
enum HostView: Hashable, Sendable {
  /// He is on it himself.
  case loopback
  /// He has reached it there.
  case at(DHTHost)
  /// He comes from the world, and has reached a private address by something that translates: he knows
  /// the host by the address that all have for it.
  case outside(DHTFamily)

  init(_ request: HTTPServerRequest) {
    self.init(caller: request.remoteAddress, listener: request.localAddress)
  }

  /// - Parameter listener: the address of this host that the caller's connection has.
  init(caller: SocketAddress, listener: SocketAddress?) {
    let caller = DHTAddress(caller).host
    if caller.isLoopback {
      self = .loopback
    } else if let listener = listener.map({ DHTAddress($0).host }), !listener.isLoopback,
      caller.isLocal || !listener.isLocal
    {
      self = .at(listener)
    } else {
      self = .outside(caller.family)
    }
  }

  /// This host's address; `nil` when none is known that would be of use.
  func host(_ hosts: PublicHosts) -> DHTHost? {
    switch self {
    case .loopback: .loopback
    case .at(let host): host
    case .outside(.ipv4): hosts.ipv4 ?? hosts.ipv6
    case .outside(.ipv6): hosts.ipv6 ?? hosts.ipv4
    }
  }
}
