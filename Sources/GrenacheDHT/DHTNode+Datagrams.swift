/// What a node does with datagrams.
extension DHTNode {
  /// A datagram has come. Whatever it holds, the worst that happens is that it is dropped and counted.
  package mutating func datagramReceived(
    _ datagram: Span<UInt8>, from source: DHTAddress, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) {
    guard source.port > 0 else { return }
    tokens.advance(to: now, using: &generator)
    do throws(KRPCMessage.Drop) {
      switch try KRPCMessage(decoding: datagram) {
      case .query(let transaction, let sender, let query):
        statistics.queriesReceived += 1
        answer(query, transaction, to: source, now: now, using: &generator)
        if let sender { verify(DHTContact(id: sender, address: source), now: now) }
      case .response(let transaction, let response):
        responseReceived(response, transaction, from: source, now: now)
      case .error(let transaction, _):
        guard let query = transactions.end(transaction, from: source) else {
          statistics.unexpectedResponses += 1
          return
        }
        queryFailed(query, isTimeout: false, now: now)
      }
    } catch {
      statistics.dropped[error.rawValue, default: 0] += 1
    }
  }

  // MARK: Queries

  /// Answers. What goes out without a token having proven the address is bounded by `bucketSize` contacts
  /// or `peersPerAnswerMax` peers, so that a forged address cannot be flooded with much.
  private mutating func answer(
    _ query: Result<KRPCQuery, KRPCErrorCode>, _ transaction: [UInt8]?, to source: DHTAddress,
    now: Duration, using generator: inout some RandomNumberGenerator
  ) {
    switch query {
    case .failure(let error):
      perform(.send(error.encoded(transaction: transaction), to: source))
    case .success(.ping):
      respond(KRPCResponse(id: id), transaction, to: source)
    case .success(.findNode(let target)):
      let nodes = table.closest(to: target, max: configuration.bucketSize)
      respond(KRPCResponse(id: id, nodes: nodes), transaction, to: source)
    case .success(.getPeers(let key)):
      respond(peersResponse(key, for: source, now: now, using: &generator), transaction, to: source)
    case .success(.announcePeer(let key, let port, let impliedPort, let token)):
      guard tokens.isValid(token, from: source) else {
        let error = KRPCErrorCode.badAnnounceToken
        return perform(.send(error.encoded(transaction: transaction), to: source))
      }
      // The address is that of the datagram: nobody announces somebody else (BEP 5).
      let peer = DHTAddress(ip: source.ip, port: impliedPort ? source.port : port)
      guard store.insert(peer, for: key, now: now) else {
        statistics.dropped["storeFull", default: 0] += 1
        return
      }
      respond(KRPCResponse(id: id), transaction, to: source)
    }
  }

  /// Peers if there are any, else nodes: never both, as existing nodes do.
  private func peersResponse(
    _ key: [UInt8], for source: DHTAddress, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) -> KRPCResponse {
    var response = KRPCResponse(id: id, token: tokens.token(for: source))
    let peers = store.peers(
      of: key, now: now, max: configuration.peersPerAnswerMax, using: &generator)
    if peers.isEmpty {
      response.nodes = table.closest(
        to: NodeID(prefixOf: key), max: configuration.bucketSize)
    } else {
      response.peers = peers
    }
    return response
  }

  private mutating func respond(
    _ response: KRPCResponse, _ transaction: [UInt8]?, to address: DHTAddress
  ) {
    perform(.send(response.encoded(transaction: transaction), to: address))
  }

  /// A stranger that has asked something may enter the routing table once it has answered a ping: what a
  /// datagram says of its source proves nothing.
  private mutating func verify(_ contact: DHTContact, now: Duration) {
    guard table.wants(contact.id), verifying.count < configuration.verificationsMax,
      !verifying.contains(contact.address)
    else { return }
    if send(.ping, to: contact.address, id: contact.id, .verification, now: now) {
      verifying.insert(contact.address)
    }
  }

  // MARK: Responses

  private mutating func responseReceived(
    _ response: KRPCResponse, _ transaction: [UInt8], from source: DHTAddress, now: Duration
  ) {
    guard let query = transactions.end(transaction, from: source) else {
      statistics.unexpectedResponses += 1
      return
    }
    let contact = DHTContact(id: response.id, address: source)
    guard response.id != id else { return queryFailed(query, isTimeout: false, now: now) }
    if let old = query.id, old != response.id {
      // Somebody else is there now, a node that was started anew: its answer proves where it is.
      dropContact(DHTContact(id: old, address: source), now: now)
    }
    statistics.responsesReceived += 1
    table.answered(contact, now: now)
    switch query.purpose {
    case .ping: break
    case .verification: verifying.remove(source)
    case .lookup(let number): lookupAnswered(number, contact, response, now: now)
    case .announce(let number): announceAnswered(number, contact, now: now)
    }
  }

  private mutating func dropContact(_ contact: DHTContact, now: Duration) {
    for _ in 0..<RoutingTable.failuresMax {
      if let replacement = table.failed(contact) { verify(replacement, now: now) }
    }
  }

  /// A query has ended without an answer that counts.
  mutating func queryFailed(_ query: Transactions.Query, isTimeout: Bool, now: Duration) {
    if isTimeout, let known = query.id {
      let contact = DHTContact(id: known, address: query.address)
      if let replacement = table.failed(contact) { verify(replacement, now: now) }
    }
    switch query.purpose {
    case .ping: break
    case .verification: verifying.remove(query.address)
    case .lookup(let number): lookupQueryFailed(number, query.address, now: now)
    case .announce(let number): announceQueryFailed(number, query.address, now: now)
    }
  }

  /// A query takes long: whoever sent it goes on without it.
  mutating func querySlow(_ query: Transactions.Query, now: Duration) {
    switch query.purpose {
    case .ping, .verification: break
    case .lookup(let number): lookupQuerySlow(number, query.address, now: now)
    case .announce(let number): announceQuerySlow(number, query.address, now: now)
    }
  }
}
