/// The fields of messages that are known, as they were found.
private struct KRPCFields {
  var a, cas, e, id, impliedPort, infoHash, ip, k, nodes, nodes6, port, q, r, ro, salt, seq, sig,
    t, target, token, v, values, want, y: BencodeField?

  /// The entries of a dictionary; `nil` when it is malformed or has a known key twice.
  init?(_ bytes: Span<UInt8>, _ range: Range<Int>) {
    var reader = BencodeReader(range)
    while !reader.isAtEnd {
      guard let (key, value) = reader.entry(bytes), note(value, key, bytes) else { return nil }
    }
  }

  /// Keeps the value of a known key; returns whether it is its first.
  private mutating func note(
    _ value: BencodeField, _ key: Range<Int>, _ bytes: Span<UInt8>
  ) -> Bool {
    switch key.count {
    case 1: return noteShort(value, bytes[key.lowerBound])
    case 2:
      if bytes.spells("id", at: key) { return Self.set(&id, value) }
      if bytes.spells("ip", at: key) { return Self.set(&ip, value) }
      if bytes.spells("ro", at: key) { return Self.set(&ro, value) }
    case 3:
      if bytes.spells("seq", at: key) { return Self.set(&seq, value) }
      if bytes.spells("sig", at: key) { return Self.set(&sig, value) }
      if bytes.spells("cas", at: key) { return Self.set(&cas, value) }
    case 4:
      if bytes.spells("port", at: key) { return Self.set(&port, value) }
      if bytes.spells("want", at: key) { return Self.set(&want, value) }
      if bytes.spells("salt", at: key) { return Self.set(&salt, value) }
    case 5:
      if bytes.spells("nodes", at: key) { return Self.set(&nodes, value) }
      if bytes.spells("token", at: key) { return Self.set(&token, value) }
    case 6:
      if bytes.spells("target", at: key) { return Self.set(&target, value) }
      if bytes.spells("values", at: key) { return Self.set(&values, value) }
      if bytes.spells("nodes6", at: key) { return Self.set(&nodes6, value) }
    case 9:
      if bytes.spells("info_hash", at: key) { return Self.set(&infoHash, value) }
    case 12:
      if bytes.spells("implied_port", at: key) { return Self.set(&impliedPort, value) }
    default: break
    }
    return true
  }

  private mutating func noteShort(_ value: BencodeField, _ key: UInt8) -> Bool {
    switch key {
    case UInt8(ascii: "a"): Self.set(&a, value)
    case UInt8(ascii: "e"): Self.set(&e, value)
    case UInt8(ascii: "k"): Self.set(&k, value)
    case UInt8(ascii: "q"): Self.set(&q, value)
    case UInt8(ascii: "r"): Self.set(&r, value)
    case UInt8(ascii: "t"): Self.set(&t, value)
    case UInt8(ascii: "v"): Self.set(&v, value)
    case UInt8(ascii: "y"): Self.set(&y, value)
    default: true
    }
  }

  private static func set(_ place: inout BencodeField?, _ value: BencodeField) -> Bool {
    guard place == nil else { return false }
    place = value
    return true
  }
}

extension Span<UInt8> {
  /// Whether a range as long as `text` holds it.
  fileprivate func spells(_ text: String, at range: Range<Int>) -> Bool {
    var index = range.lowerBound
    for byte in text.utf8 {
      guard self[index] == byte else { return false }
      index += 1
    }
    return true
  }
}

extension BencodeField {
  /// The content of a string; `nil` for another kind of value.
  fileprivate func bytes(_ bytes: Span<UInt8>) -> [UInt8]? {
    kind == .bytes ? bytes.copy(content) : nil
  }

  /// The same, unless it is longer than `max`.
  fileprivate func bytes(_ bytes: Span<UInt8>, max: Int) -> [UInt8]? {
    content.count <= max ? self.bytes(bytes) : nil
  }
}

extension KRPCMessage {
  init(decoding datagram: Span<UInt8>) throws(Drop) {
    guard datagram.count <= Self.datagramBytesMax else { throw .oversized }
    var reader = BencodeReader(0..<datagram.count)
    guard let whole = reader.value(datagram), whole.kind == .dictionary,
      let fields = KRPCFields(datagram, whole.content), let kind = fields.y, kind.kind == .bytes,
      kind.content.count == 1
    else { throw .malformed }
    var transaction: [UInt8]?
    if let field = fields.t {
      guard let bytes = field.bytes(datagram, max: Self.transactionBytesMax) else {
        throw .invalidField
      }
      transaction = bytes
    }
    switch datagram[kind.content.lowerBound] {
    case UInt8(ascii: "q"):
      self = try Self.query(fields, transaction, datagram)
    case UInt8(ascii: "r"):
      guard let transaction, let values = fields.r, values.kind == .dictionary else {
        throw .malformed
      }
      self = .response(transaction: transaction, try Self.response(values, fields.ip, datagram))
    case UInt8(ascii: "e"):
      guard let transaction, let error = fields.e, error.kind == .list else { throw .malformed }
      self = .error(transaction: transaction, try Self.error(error, datagram))
    default:
      throw .malformed
    }
  }

  private static func error(
    _ list: BencodeField, _ datagram: Span<UInt8>
  ) throws(Drop) -> KRPCErrorCode {
    var reader = BencodeReader(list.content)
    guard let code = reader.value(datagram)?.integer else { throw .malformed }
    let text = reader.value(datagram)?.bytes(datagram) ?? []
    let message = String(decoding: text.prefix(200), as: UTF8.self)
    return KRPCErrorCode(code: code, message: message)
  }

  // MARK: Queries

  private static func query(
    _ fields: KRPCFields, _ transaction: [UInt8]?, _ datagram: Span<UInt8>
  ) throws(Drop) -> KRPCMessage {
    guard let method = fields.q?.bytes(datagram), let values = fields.a,
      values.kind == .dictionary, let arguments = KRPCFields(datagram, values.content)
    else { throw .malformed }
    var sender: NodeID?
    if let field = arguments.id {
      guard let bytes = field.bytes(datagram, max: 20), let id = NodeID(bytes) else {
        throw .invalidField
      }
      sender = id
    }
    let content = Result { () throws(KRPCErrorCode) in
      try query(String(decoding: method.prefix(32), as: UTF8.self), arguments, datagram)
    }
    return .query(
      KRPCIncomingQuery(
        transaction: transaction, sender: sender, isReadOnly: fields.ro?.integer == 1,
        wanted: arguments.want.flatMap { families($0, datagram) }, content: content))
  }

  private static func families(
    _ field: BencodeField, _ datagram: Span<UInt8>
  ) -> Set<DHTFamily>? {
    guard field.kind == .list else { return nil }
    var wanted: Set<DHTFamily> = []
    var reader = BencodeReader(field.content)
    while !reader.isAtEnd, let value = reader.value(datagram) {
      switch value.bytes(datagram, max: 2) {
      case Array("n4".utf8): wanted.insert(.ipv4)
      case Array("n6".utf8): wanted.insert(.ipv6)
      default: break
      }
    }
    return wanted.isEmpty ? nil : wanted
  }

  /// Every field is checked for its type: existing nodes end at a number where bytes belong.
  private static func query(
    _ method: String, _ arguments: KRPCFields, _ datagram: Span<UInt8>
  ) throws(KRPCErrorCode) -> KRPCQuery {
    switch method {
    case "ping":
      return .ping
    case "find_node":
      guard let target = arguments.target else { throw .missingTarget }
      return .findNode(target: NodeID(prefixOf: try key(target, datagram)))
    case "get_peers":
      guard let key = arguments.infoHash else { throw .missingInfoHash }
      return .getPeers(key: try self.key(key, datagram))
    case "announce_peer":
      let impliedPort = (arguments.impliedPort?.integer ?? 0) != 0
      let port = try impliedPort ? 0 : port(arguments)
      return .announcePeer(
        key: try key(arguments.infoHash, datagram), port: port, impliedPort: impliedPort,
        token: try token(arguments, datagram))
    case "grenache_withdraw_peer":
      return .withdrawPeer(
        key: try key(arguments.infoHash, datagram), port: try port(arguments),
        token: try token(arguments, datagram))
    case "get":
      return .get(
        target: try key(arguments.target, datagram), newerThan: arguments.seq?.integer)
    case "put":
      return try put(arguments, datagram)
    default:
      throw .unknownMethod
    }
  }

  private static func key(
    _ field: BencodeField?, _ datagram: Span<UInt8>
  ) throws(KRPCErrorCode) -> [UInt8] {
    guard let bytes = field?.bytes(datagram, max: keyBytesMax) else { throw .invalidArguments }
    return bytes
  }

  private static func port(_ arguments: KRPCFields) throws(KRPCErrorCode) -> UInt16 {
    guard let port = arguments.port?.integer, (1...65_535).contains(port) else {
      throw .invalidArguments
    }
    return UInt16(port)
  }

  private static func token(
    _ arguments: KRPCFields, _ datagram: Span<UInt8>
  ) throws(KRPCErrorCode) -> [UInt8] {
    guard let bytes = arguments.token?.bytes(datagram, max: tokenBytesMax) else {
      throw .invalidArguments
    }
    return bytes
  }

  private static func put(
    _ arguments: KRPCFields, _ datagram: Span<UInt8>
  ) throws(KRPCErrorCode) -> KRPCQuery {
    guard let value = arguments.v else { throw .invalidArguments }
    let token = try token(arguments, datagram)
    var item = DHTItem(value: datagram.copy(value.encoded))
    guard item.valueBytes <= DHTItem.valueBytesMax else { throw .valueTooLarge }
    guard let key = arguments.k else {
      return .put(item, compareAndSwap: nil, token: token)
    }
    let salt = try arguments.salt.map { field throws(KRPCErrorCode) in
      guard field.kind == .bytes else { throw .invalidArguments }
      guard let salt = field.bytes(datagram, max: DHTItem.saltBytesMax) else { throw .saltTooLong }
      return salt
    }
    guard let publicKey = key.bytes(datagram, max: DHTItem.publicKeyBytes),
      publicKey.count == DHTItem.publicKeyBytes, let sequence = arguments.seq?.integer,
      let signature = arguments.sig?.bytes(datagram, max: DHTItem.signatureBytes)
    else { throw .invalidArguments }
    item.signature = DHTItem.Signature(
      publicKey: publicKey, salt: salt ?? [], sequence: sequence, signature: signature)
    return .put(item, compareAndSwap: arguments.cas?.integer, token: token)
  }

  // MARK: Responses

  private static func response(
    _ values: BencodeField, _ ip: BencodeField?, _ datagram: Span<UInt8>
  ) throws(Drop) -> KRPCResponse {
    guard let fields = KRPCFields(datagram, values.content),
      let bytes = fields.id?.bytes(datagram, max: 20), let id = NodeID(bytes)
    else { throw .invalidField }
    var response = KRPCResponse(id: id)
    response.nodes = try nodes(fields.nodes, .ipv4, datagram)
    response.nodes6 = try nodes(fields.nodes6, .ipv6, datagram)
    if let peers = fields.values { response.peers = try self.peers(peers, datagram) }
    if let field = fields.token {
      guard let token = field.bytes(datagram, max: tokenBytesMax) else { throw .invalidField }
      response.token = token
    }
    response.observedAddress = ip?.bytes(datagram, max: 18).flatMap { DHTAddress(compact: $0) }
    response.sequence = fields.seq?.integer
    if let value = fields.v { response.item = item(value, fields, datagram) }
    return response
  }

  private static func nodes(
    _ field: BencodeField?, _ family: DHTFamily, _ datagram: Span<UInt8>
  ) throws(Drop) -> [DHTContact]? {
    guard let field else { return nil }
    guard field.kind == .bytes else { throw .invalidField }
    return DHTContact.list(datagram, field.content, family, max: 128)
  }

  private static func peers(
    _ field: BencodeField, _ datagram: Span<UInt8>
  ) throws(Drop) -> [DHTAddress] {
    guard field.kind == .list else { throw .invalidField }
    var peers: [DHTAddress] = []
    var reader = BencodeReader(field.content)
    while !reader.isAtEnd, let value = reader.value(datagram) {
      if let bytes = value.bytes(datagram, max: 18), let peer = DHTAddress(compact: bytes) {
        peers.append(peer)
      }
    }
    return peers
  }

  /// The item of an answer, mutable if it has all that belongs to one; the asker knows the salt.
  private static func item(
    _ value: BencodeField, _ fields: KRPCFields, _ datagram: Span<UInt8>
  ) -> DHTItem? {
    var item = DHTItem(value: datagram.copy(value.encoded))
    guard item.valueBytes <= DHTItem.valueBytesMax else { return nil }
    if let publicKey = fields.k?.bytes(datagram, max: DHTItem.publicKeyBytes),
      let signature = fields.sig?.bytes(datagram, max: DHTItem.signatureBytes),
      let sequence = fields.seq?.integer
    {
      item.signature = DHTItem.Signature(
        publicKey: publicKey, salt: [], sequence: sequence, signature: signature)
    }
    return item
  }
}
