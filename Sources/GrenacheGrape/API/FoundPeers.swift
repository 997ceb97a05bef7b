internal import GrenacheDHT

/// A lookup that is over.
struct GrapeLookup: Sendable {
  var result: DHTLookupResult
  let peers: FoundPeers
}

/// What a lookup has found, ready to be told to anybody.
struct FoundPeers: Hashable, Sendable {
  private let elsewhere: [String]
  /// The ports of those on this host.
  private let here: [UInt16]
  private let hosts: PublicHosts
  /// Whether there are more than these.
  let isPart: Bool

  /// - Parameter max: so many, the first ones, are kept.
  init(_ peers: [FoundPeer], _ hosts: PublicHosts, max: Int = GrapeAPI.lookupResultsMax) {
    var elsewhere: [String] = []
    var here: [UInt16] = []
    for peer in peers.prefix(max) {
      switch peer {
      case .here(let port): here.append(port)
      case .elsewhere(let address): elsewhere.append(address.description)
      }
    }
    self.elsewhere = elsewhere
    self.here = here
    self.hosts = hosts
    isPart = peers.count > max
  }

  var isEmpty: Bool { elsewhere.isEmpty && here.isEmpty }
  /// About what it costs to keep.
  var bytes: Int { elsewhere.count * 64 + here.count * 2 }

  /// The addresses for somebody who sees this host so.
  func addresses(_ view: HostView) -> [String] {
    guard !here.isEmpty, let host = view.host(hosts) else { return elsewhere }
    let own = here.map { DHTAddress(host: host, port: $0).description }
    return elsewhere + own.filter { !elsewhere.contains($0) }
  }
}
