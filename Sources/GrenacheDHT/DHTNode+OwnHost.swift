/// Where this node's host is for others: what is stored here under a loopback address is on this host.
extension DHTNode {
  /// The addresses of this host's network interfaces are these now.
  package mutating func setInterfaces(_ hosts: [DHTHost]) {
    interfaces = hosts.filter { !$0.isLoopback && $0.isUnicast }
  }

  /// The address that the whole world has for this host: the one that others have told (BEP 42), or that
  /// of an interface; `nil` when there is none, or none is known.
  package func publicHost(_ family: DHTFamily) -> DHTHost? {
    external[family]?.host
      ?? interfaces.first { $0.family == family && !$0.isLocal }
  }

  /// Whether that is an address of this host: of an interface, or what others have told.
  package func isOwn(_ host: DHTHost) -> Bool {
    host.isLoopback || interfaces.contains(host) || external[host.family]?.host == host
  }

  /// This host's address for somebody elsewhere: in a private network the one of the same block that is
  /// nearest to his; where there is none, that of the first interface, for those of containers and
  /// virtual machines are made after it. Which way the kernel would send is not known here.
  func ownHost(for asker: DHTHost) -> DHTHost? {
    guard asker.isLocal else { return publicHost(asker.family) }
    let local = interfaces.filter { $0.family == asker.family && $0.isLocal }
    return local.filter { $0.localBlock == asker.localBlock }
      .max { $0.commonBits(with: asker) < $1.commonBits(with: asker) }
      ?? local.first { !$0.isLinkLocal } ?? publicHost(asker.family) ?? local.first
  }

  /// Where `peer` is for somebody else: what is on this host is at its own address for those who are not,
  /// or nowhere.
  func visible(_ peer: DHTAddress, to source: DHTAddress) -> DHTAddress? {
    guard peer.host.isLoopback, !source.host.isLoopback else { return peer }
    return ownHost(for: source.host).map { DHTAddress(host: $0, port: peer.port) }
  }
}

extension DHTHost {
  /// Which of the blocks for private networks, or of link-local addresses, a local address is of
  /// (RFC 1918, RFC 3927; RFC 4193, RFC 4291): by the first bits that tell them apart.
  fileprivate var localBlock: UInt64 {
    family == .ipv4 ? low >> 24 : high >> 57
  }

  fileprivate var isLinkLocal: Bool {
    family == .ipv4 ? ip >> 16 == 0xa9fe : high >> 54 == 0x3fa
  }

  /// How many bits two addresses have in common before the first that differs.
  fileprivate func commonBits(with other: DHTHost) -> Int {
    let high = (high ^ other.high).leadingZeroBitCount
    return high < 64 ? high : 64 + (low ^ other.low).leadingZeroBitCount
  }
}
