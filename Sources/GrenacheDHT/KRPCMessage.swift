/// What a node asks (BEP 5, BEP 44).
package enum KRPCQuery: Hashable, Sendable {
  case ping
  case findNode(target: NodeID)
  case getPeers(key: [UInt8])
  case announcePeer(key: [UInt8], port: UInt16, impliedPort: Bool, token: [UInt8])
  /// An item, or what is newer than a sequence number.
  case get(target: [UInt8], newerThan: Int64?)
  case put(DHTItem, compareAndSwap: Int64?, token: [UInt8])
  /// Takes an announcement back: an extension of ours, which nodes that do not know the method ignore
  /// or answer with 204.
  case withdrawPeer(key: [UInt8], port: UInt16, token: [UInt8])

  /// The point of the key space that the query is about, if it looks for one.
  var target: NodeID? {
    switch self {
    case .findNode(let target): target
    case .getPeers(let key): NodeID(prefixOf: key)
    case .get(let target, _): NodeID(prefixOf: target)
    case .ping, .announcePeer, .put, .withdrawPeer: nil
    }
  }
}

/// What a node answers. A field that is absent is `nil` or empty.
package struct KRPCResponse: Hashable, Sendable {
  package var id: NodeID
  /// Nodes of IPv4, and of IPv6 (BEP 32).
  package var nodes: [DHTContact]?
  package var nodes6: [DHTContact]?
  package var peers: [DHTAddress]?
  package var token: [UInt8]?
  package var item: DHTItem?
  /// The sequence number that is stored, in place of an item that the asker has.
  package var sequence: Int64?
  /// The asker's address as this node sees it (BEP 42).
  package var observedAddress: DHTAddress?

  package init(id: NodeID) { self.id = id }
}

/// Why a query is not answered as asked (BEP 5, BEP 44).
package struct KRPCErrorCode: Error, Hashable, Sendable {
  package var code: Int64
  package var message: String

  package init(code: Int64, message: String) {
    self.code = code
    self.message = message
  }

  // Existing nodes answer with these very texts.
  static let missingTarget = KRPCErrorCode(
    code: 203, message: "`find_node` missing required `a.target` field")
  static let missingInfoHash = KRPCErrorCode(
    code: 203, message: "`get_peers` missing required `a.info_hash` field")
  static let badAnnounceToken = KRPCErrorCode(
    code: 203, message: "cannot `announce_peer` with bad token")
  static let badPutToken = KRPCErrorCode(code: 203, message: "cannot `put` with bad token")
  static let valueTooLarge = KRPCErrorCode(code: 205, message: "data payload too large")
  package static let casMismatch = KRPCErrorCode(
    code: 301, message: "CAS mismatch, re-read and try again")
  package static let sequenceTooLow = KRPCErrorCode(
    code: 302, message: "sequence number less than current")

  // Where existing nodes are silent or end, by the table of BEP 5 and BEP 44.
  static let addressLimit = KRPCErrorCode(
    code: 201, message: "this address stores too much here")
  static let storeFull = KRPCErrorCode(code: 202, message: "the store is full")
  static let invalidArguments = KRPCErrorCode(
    code: 203, message: "an argument is missing or of the wrong type")
  static let badWithdrawToken = KRPCErrorCode(
    code: 203, message: "cannot withdraw with bad token")
  static let unknownMethod = KRPCErrorCode(code: 204, message: "method unknown")
  static let invalidSignature = KRPCErrorCode(code: 206, message: "invalid signature")
  static let saltTooLong = KRPCErrorCode(code: 207, message: "salt too big")
}

/// A message of KRPC: bencoded, one a datagram.
enum KRPCMessage {
  case query(KRPCIncomingQuery)
  case response(transaction: [UInt8], KRPCResponse)
  case error(transaction: [UInt8], KRPCErrorCode)

  /// Why a datagram is dropped without an answer.
  enum Drop: String, Error, Hashable, CaseIterable {
    case malformed
    case invalidField
    case oversized
  }

  /// Limits of fields that are echoed or kept.
  static let transactionBytesMax = 64
  static let keyBytesMax = 4_096
  static let tokenBytesMax = 128
  /// The largest datagram that is looked at: a key at its limit and all else.
  static let datagramBytesMax = 8_192
}

/// A query as it came.
struct KRPCIncomingQuery {
  /// Echoed as it came; a query without one is answered without one.
  var transaction: [UInt8]?
  var sender: NodeID?
  /// The sender answers no queries and does not want to be known (BEP 43).
  var isReadOnly = false
  /// Which families' nodes it wants (BEP 32); `nil` for the family that it asks over.
  var wanted: Set<DHTFamily>?
  var content: Result<KRPCQuery, KRPCErrorCode>
}
