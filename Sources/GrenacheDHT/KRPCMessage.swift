/// What a node asks (BEP 5).
package enum KRPCQuery: Hashable, Sendable {
  case ping
  case findNode(target: NodeID)
  case getPeers(key: [UInt8])
  case announcePeer(key: [UInt8], port: UInt16, impliedPort: Bool, token: [UInt8])

  var method: String {
    switch self {
    case .ping: "ping"
    case .findNode: "find_node"
    case .getPeers: "get_peers"
    case .announcePeer: "announce_peer"
    }
  }
}

/// What a node answers. A field that is absent is `nil`.
package struct KRPCResponse: Hashable, Sendable {
  package var id: NodeID
  package var nodes: [DHTContact]?
  package var peers: [DHTAddress]?
  package var token: [UInt8]?
}

/// Why a query is not answered as asked.
package struct KRPCErrorCode: Error, Hashable, Sendable {
  package var code: Int64
  package var message: String

  /// Existing nodes answer with these very texts.
  static let missingTarget = KRPCErrorCode(
    code: 203, message: "`find_node` missing required `a.target` field")
  static let missingInfoHash = KRPCErrorCode(
    code: 203, message: "`get_peers` missing required `a.info_hash` field")
  static let badAnnounceToken = KRPCErrorCode(
    code: 203, message: "cannot `announce_peer` with bad token")
}

/// A message of KRPC: bencoded, one a datagram.
enum KRPCMessage {
  case query(transaction: [UInt8]?, id: NodeID?, Result<KRPCQuery, KRPCErrorCode>)
  case response(transaction: [UInt8], KRPCResponse)
  case error(transaction: [UInt8], KRPCErrorCode)

  /// Why a datagram is dropped without an answer.
  enum Drop: String, Error, Hashable, CaseIterable {
    case malformed
    case unknownMethod
    case invalidField
    case oversized
  }

  /// Limits of fields that are echoed or kept.
  static let transactionBytesMax = 64
  static let keyBytesMax = 4_096
  static let tokenBytesMax = 128
}

// MARK: Decoding

extension KRPCMessage {
  init(decoding datagram: Span<UInt8>) throws(Drop) {
    guard let message = Bencode(decoding: datagram), case .dictionary = message else {
      throw .malformed
    }
    var transaction: [UInt8]?
    if let field = message["t"] {
      guard let bytes = field.bytes, bytes.count <= Self.transactionBytesMax else {
        throw .invalidField
      }
      transaction = bytes
    }
    switch message["y"]?.bytes {
    case [UInt8(ascii: "q")]:
      self = try Self.query(message, transaction)
    case [UInt8(ascii: "r")]:
      guard let transaction, let values = message["r"] else { throw .malformed }
      self = .response(transaction: transaction, try Self.response(values))
    case [UInt8(ascii: "e")]:
      guard let transaction, let fields = message["e"]?.list, let code = fields.first?.integer
      else {
        throw .malformed
      }
      let text = fields.count > 1 ? fields[1].bytes ?? [] : []
      let message = String(decoding: text.prefix(200), as: UTF8.self)
      self = .error(transaction: transaction, KRPCErrorCode(code: code, message: message))
    default:
      throw .malformed
    }
  }

  private static func query(
    _ message: Bencode, _ transaction: [UInt8]?
  ) throws(Drop) -> KRPCMessage {
    guard let method = message["q"]?.bytes, let arguments = message["a"],
      case .dictionary = arguments
    else { throw .malformed }
    var id: NodeID?
    if let field = arguments["id"] {
      guard let bytes = field.bytes, let known = NodeID(bytes) else { throw .invalidField }
      id = known
    }
    return .query(transaction: transaction, id: id, try query(method, arguments))
  }

  /// Every field is checked for its type: existing nodes end at a number where bytes belong.
  private static func query(
    _ method: [UInt8], _ arguments: Bencode
  ) throws(Drop) -> Result<KRPCQuery, KRPCErrorCode> {
    switch String(decoding: method.prefix(32), as: UTF8.self) {
    case "ping":
      return .success(.ping)
    case "find_node":
      guard let target = arguments["target"] else { return .failure(.missingTarget) }
      guard let bytes = target.bytes, bytes.count <= keyBytesMax else { throw .invalidField }
      return .success(.findNode(target: NodeID(prefixOf: bytes)))
    case "get_peers":
      guard let key = arguments["info_hash"] else { return .failure(.missingInfoHash) }
      return .success(.getPeers(key: try checkedKey(key)))
    case "announce_peer":
      return .success(try announcePeer(arguments))
    default:
      throw .unknownMethod
    }
  }

  private static func announcePeer(_ arguments: Bencode) throws(Drop) -> KRPCQuery {
    guard let key = arguments["info_hash"], let token = arguments["token"]?.bytes,
      token.count <= tokenBytesMax
    else { throw .invalidField }
    let impliedPort = (arguments["implied_port"]?.integer ?? 0) != 0
    let port = arguments["port"]?.integer ?? 0
    guard impliedPort || (1...65_535).contains(port) else { throw .invalidField }
    return .announcePeer(
      key: try checkedKey(key), port: UInt16(clamping: port), impliedPort: impliedPort,
      token: token)
  }

  private static func checkedKey(_ field: Bencode) throws(Drop) -> [UInt8] {
    guard let bytes = field.bytes else { throw .invalidField }
    guard bytes.count <= keyBytesMax else { throw .oversized }
    return bytes
  }

  private static func response(_ values: Bencode) throws(Drop) -> KRPCResponse {
    guard let bytes = values["id"]?.bytes, let id = NodeID(bytes) else { throw .invalidField }
    var response = KRPCResponse(id: id)
    if let nodes = values["nodes"] {
      guard let bytes = nodes.bytes else { throw .invalidField }
      response.nodes = DHTContact.list(compact: bytes, max: 128)
    }
    if let peers = values["values"] {
      guard let list = peers.list else { throw .invalidField }
      response.peers = list.compactMap { $0.bytes.flatMap { DHTAddress(compact: $0) } }
    }
    if let token = values["token"] {
      guard let bytes = token.bytes, bytes.count <= tokenBytesMax else { throw .invalidField }
      response.token = bytes
    }
    return response
  }
}

// MARK: Encoding

extension KRPCQuery {
  func encoded(transaction: [UInt8], from id: NodeID) -> [UInt8] {
    var arguments: [[UInt8]: Bencode] = [Array("id".utf8): .bytes(id.bytes)]
    switch self {
    case .ping:
      break
    case .findNode(let target):
      arguments[Array("target".utf8)] = .bytes(target.bytes)
    case .getPeers(let key):
      arguments[Array("info_hash".utf8)] = .bytes(key)
    case .announcePeer(let key, let port, let impliedPort, let token):
      arguments[Array("implied_port".utf8)] = .integer(impliedPort ? 1 : 0)
      arguments[Array("info_hash".utf8)] = .bytes(key)
      arguments[Array("port".utf8)] = .integer(Int64(port))
      arguments[Array("token".utf8)] = .bytes(token)
    }
    return Bencode.dictionary([
      Array("a".utf8): .dictionary(arguments), Array("q".utf8): Bencode(method),
      Array("t".utf8): .bytes(transaction), Array("y".utf8): Bencode("q"),
    ]).encoded
  }
}

extension KRPCResponse {
  /// `transaction` is echoed as it came; a query without one is answered without one.
  func encoded(transaction: [UInt8]?) -> [UInt8] {
    var values: [[UInt8]: Bencode] = [Array("id".utf8): .bytes(id.bytes)]
    if let nodes { values[Array("nodes".utf8)] = .bytes(nodes.flatMap(\.compact)) }
    if let token { values[Array("token".utf8)] = .bytes(token) }
    if let peers { values[Array("values".utf8)] = .list(peers.map { .bytes($0.compact) }) }
    return KRPCMessage.encoded(transaction, kind: "r", .dictionary(values))
  }
}

extension KRPCErrorCode {
  func encoded(transaction: [UInt8]?) -> [UInt8] {
    KRPCMessage.encoded(transaction, kind: "e", .list([.integer(code), Bencode(message)]))
  }
}

extension KRPCMessage {
  fileprivate static func encoded(
    _ transaction: [UInt8]?, kind: String, _ body: Bencode
  ) -> [UInt8] {
    var message: [[UInt8]: Bencode] = [
      Array(kind.utf8): body, Array("y".utf8): Bencode(kind),
    ]
    if let transaction { message[Array("t".utf8)] = .bytes(transaction) }
    return Bencode.dictionary(message).encoded
  }
}
