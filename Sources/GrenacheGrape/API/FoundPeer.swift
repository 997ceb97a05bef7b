internal import GrenacheDHT

/// A peer that a lookup has found. Where this grape's own host is depends on who asks.
enum FoundPeer: Hashable, Comparable, Sendable {
  /// On this host.
  case here(port: UInt16)
  /// At the same address for everybody.
  case elsewhere(DHTAddress)

  /// Where it is for somebody for whom this host is at `host`.
  func address(withThisHostAt host: DHTHost?) -> DHTAddress? {
    switch self {
    case .here(let port): host.map { DHTAddress(host: $0, port: port) }
    case .elsewhere(let address): address
    }
  }

  /// Under which address the node stores what is on this host, whoever has announced it over whichever
  /// of its addresses: so it is one announcement, which can be taken back over any of them.
  static func stored(onThisHostAt port: UInt16) -> DHTAddress {
    DHTAddress(host: .loopback, port: port)
  }
}

extension DHTHost {
  /// 127.0.0.1.
  static let loopback = DHTHost(ip: 0x7f00_0001)
}

/// Tells the peers on this host from others, one service once.
///
/// A service of this host is stored here under a loopback address; other nodes name it at the address
/// from which they have heard of it. Such an address is another name of the same service.
struct PeerSorter {
  /// The ports of what is known to be on this host.
  private var here: Set<UInt16>
  private var told: Set<FoundPeer> = []
  /// The ports that were told of at an address of this host, before they were known to be here.
  private var named: Set<UInt16> = []

  /// - Parameter stored: what this node stores of the key.
  init(stored: some Sequence<DHTAddress>) {
    here = Set(stored.filter(\.host.isLoopback).map(\.port))
  }

  /// Those of `peers` that have not been told before, in their order.
  mutating func sort(_ peers: [DHTAddress], isOwn: (DHTHost) -> Bool) -> [FoundPeer] {
    for peer in peers where peer.host.isLoopback { here.insert(peer.port) }
    var result: [FoundPeer] = []
    for peer in peers {
      let isOwn = isOwn(peer.host)
      if isOwn, named.contains(peer.port) { continue }
      let isHere = isOwn && here.contains(peer.port)
      if isOwn, !isHere { named.insert(peer.port) }
      let found = isHere ? FoundPeer.here(port: peer.port) : .elsewhere(peer)
      if told.insert(found).inserted { result.append(found) }
    }
    return result
  }
}
