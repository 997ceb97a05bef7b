internal import GrenacheDHT
internal import GrenacheIO

/// What a driver knows of its own host.
extension DHTDriver {
  /// How often the addresses of the network interfaces are looked up.
  private static let interfacesAge = Duration.seconds(10)

  func lookAtInterfaces() {
    let time = MonotonicTime.now()
    if let interfacesSeenAt, time - interfacesSeenAt < Self.interfacesAge { return }
    interfacesSeenAt = time
    node.setInterfaces(
      NetworkInterfaces.addresses().map { DHTAddress(SocketAddress(host: $0, port: 0)).host })
  }

  /// The addresses that the whole world has for this host.
  var publicHosts: PublicHosts {
    PublicHosts(ipv4: node.publicHost(.ipv4), ipv6: node.publicHost(.ipv6))
  }

  /// What a lookup has found, as callers are told it.
  func found(_ result: DHTLookupResult, of key: [UInt8]) -> GrapeLookup {
    var sorter = sorter(of: key)
    return GrapeLookup(
      result: result, peers: FoundPeers(sort(result.peers, with: &sorter), publicHosts))
  }

  /// What tells the peers of `key` on this host from others.
  func sorter(of key: [UInt8]) -> PeerSorter {
    PeerSorter(stored: node.peers(of: key, at: now).lazy.map(\.peer))
  }

  /// Those of `peers` that are new, each service on this host once.
  func sort(_ peers: [DHTAddress], with sorter: inout PeerSorter) -> [FoundPeer] {
    sorter.sort(peers) { node.isOwn($0) }
  }

  /// What this node itself stores of a key.
  func stored(_ key: [UInt8]) -> Set<FoundPeer> {
    var sorter = PeerSorter(stored: [])
    return Set(sort(node.peers(of: key, at: now).map(\.peer), with: &sorter))
  }

  /// Knows other bootstrap nodes from now on.
  func setBootstrap(_ addresses: [DHTAddress], on loop: isolated EventLoop) {
    node.setBootstrap(addresses, now: now)
    perform(on: loop)
  }
}
