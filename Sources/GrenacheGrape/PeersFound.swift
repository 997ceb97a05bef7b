internal import GrenacheDHT

/// Hands on the peers that a lookup finds while it goes on, each once. Confined to the loop of the DHT.
final class PeersFound {
  /// Peers of one lookup that are handed on: as many as its result has.
  static let peersMax = 1_000

  private var known: Set<DHTAddress> = []
  private let tell: ([DHTAddress]) -> Void

  /// - Parameter tell: gets those that it has not got before.
  init(_ tell: @escaping ([DHTAddress]) -> Void) {
    self.tell = tell
  }

  func add(_ peers: [DHTAddress]) {
    var new: [DHTAddress] = []
    for peer in peers where known.count < Self.peersMax {
      if known.insert(peer).inserted { new.append(peer) }
    }
    if !new.isEmpty { tell(new) }
  }
}
