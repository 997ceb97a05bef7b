/// A node: who it is and where (compact node info, BEP 5 and BEP 32).
package struct DHTContact: Hashable, Sendable {
  package var id: NodeID
  package var address: DHTAddress

  package init(id: NodeID, address: DHTAddress) {
    self.id = id
    self.address = address
  }

  func appendCompact(to bytes: inout [UInt8]) {
    id.append(to: &bytes)
    address.appendCompact(to: &bytes)
  }

  /// As many contacts as `range` of a datagram holds whole ones, at most `max`; those that nobody can
  /// send to, without a port or with an address that no host has, are left out.
  static func list(
    _ bytes: Span<UInt8>, _ range: Range<Int>, _ family: DHTFamily, max: Int
  ) -> [DHTContact] {
    var contacts: [DHTContact] = []
    let size = family.compactNodeBytes
    var index = range.lowerBound
    while index + size <= range.upperBound, contacts.count < max {
      let id = NodeID(bytes, at: index)
      let address = DHTAddress(bytes, at: index + 20, family)
      index += size
      guard address.port > 0, address.family == family, address.host.isUnicast else { continue }
      contacts.append(DHTContact(id: id, address: address))
    }
    return contacts
  }
}

extension [UInt8] {
  /// Appends a part of borrowed bytes.
  mutating func append(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    reserveCapacity(count + range.count)
    for index in range { append(bytes[index]) }
  }
}
