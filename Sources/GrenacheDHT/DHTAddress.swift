/// An IPv4 address and a port, as compact node and peer info hold them (BEP 5).
package struct DHTAddress: Hashable, Sendable, CustomStringConvertible {
  /// The address, its first byte highest.
  package var ip: UInt32
  package var port: UInt16

  package init(ip: UInt32, port: UInt16) {
    self.ip = ip
    self.port = port
  }

  /// Four bytes of address and two of port, big-endian.
  package init?(compact bytes: some Collection<UInt8>) {
    guard bytes.count == 6 else { return nil }
    var value: UInt64 = 0
    for byte in bytes { value = value << 8 | UInt64(byte) }
    self.init(ip: UInt32(value >> 16), port: UInt16(truncatingIfNeeded: value))
  }

  package var compact: [UInt8] {
    let value = UInt64(ip) << 16 | UInt64(port)
    return stride(from: 40, through: 0, by: -8).map {
      UInt8(truncatingIfNeeded: value >> UInt64($0))
    }
  }

  /// The address without the port, as text.
  package var ipText: String {
    "\(ip >> 24).\(ip >> 16 & 255).\(ip >> 8 & 255).\(ip & 255)"
  }

  package var description: String { "\(ipText):\(port)" }
}

/// A node: who it is and where (26 bytes of compact node info).
package struct DHTContact: Hashable, Sendable {
  package var id: NodeID
  package var address: DHTAddress

  package init(id: NodeID, address: DHTAddress) {
    self.id = id
    self.address = address
  }

  package var compact: [UInt8] { id.bytes + address.compact }

  /// As many contacts as `bytes` hold whole ones, at most `max`; those without a port are left out.
  static func list(compact bytes: [UInt8], max: Int) -> [DHTContact] {
    var contacts: [DHTContact] = []
    var index = 0
    while index + 26 <= bytes.count, contacts.count < max {
      if let id = NodeID(bytes[index..<(index + 20)]),
        let address = DHTAddress(compact: bytes[(index + 20)..<(index + 26)]), address.port > 0
      {
        contacts.append(DHTContact(id: id, address: address))
      }
      index += 26
    }
    return contacts
  }
}
