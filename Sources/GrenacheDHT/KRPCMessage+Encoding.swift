/// Messages are written with their keys in order (BEP 3).
extension KRPCQuery {
  /// - Parameter wanted: which families' nodes are asked for, if not only the one that is asked over.
  func encoded(
    transaction: [UInt8], from id: NodeID, isReadOnly: Bool = false, wanted: Set<DHTFamily>? = nil
  ) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(160)
    output.append(ascii: "d1:ad")
    appendArguments(to: &output, id, wanted)
    output.append(ascii: "e1:q")
    output.append(ascii: method)
    if isReadOnly { output.append(ascii: "2:roi1e") }
    output.append(ascii: "1:t")
    output.append(bencoded: transaction)
    output.append(ascii: "1:y1:qe")
    return output
  }

  /// The method's name, bencoded.
  private var method: String {
    switch self {
    case .ping: "4:ping"
    case .findNode: "9:find_node"
    case .getPeers: "9:get_peers"
    case .announcePeer: "13:announce_peer"
    case .get: "3:get"
    case .put: "3:put"
    case .withdrawPeer: "22:grenache_withdraw_peer"
    }
  }

  private func appendArguments(
    to output: inout [UInt8], _ id: NodeID, _ wanted: Set<DHTFamily>?
  ) {
    if case .put(_, let cas?, _) = self {
      output.append(ascii: "3:cas")
      output.append(bencoded: cas)
    }
    output.append(ascii: "2:id20:")
    id.append(to: &output)
    switch self {
    case .ping:
      return
    case .findNode(let target):
      output.append(ascii: "6:target20:")
      target.append(to: &output)
    case .getPeers(let key):
      output.append(ascii: "9:info_hash")
      output.append(bencoded: key)
    case .announcePeer(let key, let port, let impliedPort, let token):
      output.append(ascii: impliedPort ? "12:implied_porti1e" : "12:implied_porti0e")
      Self.append(key, port, token, to: &output)
    case .withdrawPeer(let key, let port, let token):
      Self.append(key, port, token, to: &output)
    case .get(let target, let sequence):
      if let sequence {
        output.append(ascii: "3:seq")
        output.append(bencoded: sequence)
      }
      output.append(ascii: "6:target")
      output.append(bencoded: target)
    case .put(let item, _, let token):
      Self.append(item, token, to: &output)
    }
    if let wanted, target != nil {
      output.append(ascii: "4:wantl")
      if wanted.contains(.ipv4) { output.append(ascii: "2:n4") }
      if wanted.contains(.ipv6) { output.append(ascii: "2:n6") }
      output.append(ascii: "e")
    }
  }

  private static func append(
    _ key: [UInt8], _ port: UInt16, _ token: [UInt8], to output: inout [UInt8]
  ) {
    output.append(ascii: "9:info_hash")
    output.append(bencoded: key)
    output.append(ascii: "4:port")
    output.append(bencoded: Int64(port))
    output.append(ascii: "5:token")
    output.append(bencoded: token)
  }

  private static func append(_ item: DHTItem, _ token: [UInt8], to output: inout [UInt8]) {
    if let signature = item.signature {
      output.append(ascii: "1:k")
      output.append(bencoded: signature.publicKey)
      if !signature.salt.isEmpty {
        output.append(ascii: "4:salt")
        output.append(bencoded: signature.salt)
      }
      output.append(ascii: "3:seq")
      output.append(bencoded: signature.sequence)
      output.append(ascii: "3:sig")
      output.append(bencoded: signature.signature)
    }
    output.append(ascii: "5:token")
    output.append(bencoded: token)
    output.append(ascii: "1:v")
    output.append(contentsOf: item.value)
  }
}

extension KRPCResponse {
  /// `transaction` is echoed as it came; a query without one is answered without one.
  func encoded(transaction: [UInt8]?) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(128 + (nodes?.count ?? 0) * 26 + (peers?.count ?? 0) * 8)
    output.append(ascii: "d")
    if let observedAddress {
      output.append(ascii: "2:ip")
      output.append(bencoded: observedAddress.compact)
    }
    output.append(ascii: "1:rd2:id20:")
    id.append(to: &output)
    if let publicKey = item?.signature?.publicKey {
      output.append(ascii: "1:k")
      output.append(bencoded: publicKey)
    }
    append(nodes, "5:nodes", .ipv4, to: &output)
    append(nodes6, "6:nodes6", .ipv6, to: &output)
    if let sequence = item?.signature?.sequence ?? sequence {
      output.append(ascii: "3:seq")
      output.append(bencoded: sequence)
    }
    if let signature = item?.signature?.signature {
      output.append(ascii: "3:sig")
      output.append(bencoded: signature)
    }
    if let token {
      output.append(ascii: "5:token")
      output.append(bencoded: token)
    }
    if let item {
      output.append(ascii: "1:v")
      output.append(contentsOf: item.value)
    }
    appendPeers(to: &output)
    output.append(ascii: "e")
    KRPCMessage.appendEnd(to: &output, transaction, "1:y1:re")
    return output
  }

  private func append(
    _ nodes: [DHTContact]?, _ name: String, _ family: DHTFamily, to output: inout [UInt8]
  ) {
    guard let nodes else { return }
    output.append(ascii: name)
    output.append(length: nodes.count * family.compactNodeBytes)
    for node in nodes { node.appendCompact(to: &output) }
  }

  private func appendPeers(to output: inout [UInt8]) {
    guard let peers else { return }
    output.append(ascii: "6:valuesl")
    for peer in peers {
      output.append(length: peer.family.compactBytes)
      peer.appendCompact(to: &output)
    }
    output.append(ascii: "e")
  }
}

extension KRPCErrorCode {
  func encoded(transaction: [UInt8]?) -> [UInt8] {
    var output: [UInt8] = []
    output.append(ascii: "d1:el")
    output.append(bencoded: code)
    output.append(bencoded: Array(message.utf8))
    output.append(ascii: "e")
    KRPCMessage.appendEnd(to: &output, transaction, "1:y1:ee")
    return output
  }
}

extension KRPCMessage {
  fileprivate static func appendEnd(
    to output: inout [UInt8], _ transaction: [UInt8]?, _ end: String
  ) {
    if let transaction {
      output.append(ascii: "1:t")
      output.append(bencoded: transaction)
    }
    output.append(ascii: end)
  }
}
