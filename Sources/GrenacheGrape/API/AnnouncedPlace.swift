internal import GrenacheDHT
internal import GrenacheIO

/// Where an announced service is kept to be.
enum AnnouncedPlace: Hashable {
  /// On this grape's host, where other nodes see the announcement come from.
  case here(DHTAddress)
  /// Elsewhere: only this grape can know.
  case elsewhere(DHTAddress)
  /// The caller has named an address that is not his.
  case refused

  /// - Parameters:
  ///   - named: the address that the caller has named, if he has.
  ///   - listener: the address of this host that his connection has.
  ///   - covers: whether his certificate bears an address.
  init(
    port: UInt16, named: SocketAddress?, caller: SocketAddress, listener: SocketAddress?,
    covers: (SocketAddress) -> Bool
  ) {
    let (caller, named, listener) = (caller.unmapped, named?.unmapped, listener?.unmapped)
    // Of a caller on this machine it does not matter which of its addresses the connection has.
    let isHere = caller.isLoopback || caller.host == listener?.host
    let address = named ?? caller
    if isHere, address.isLoopback || address.host == caller.host || address.host == listener?.host {
      self = .here(FoundPeer.stored(onThisHostAt: port))
    } else if address.isLoopback || address.host != caller.host && !covers(address) {
      // Loopback is another machine for everybody: no certificate makes it the caller's.
      self = .refused
    } else {
      self = .elsewhere(DHTAddress(SocketAddress(host: address.host, port: port)))
    }
  }
}
