/// How a node answers queries.
extension DHTNode {
  /// What is known of a query beside its content.
  struct QueryContext {
    let transaction: [UInt8]?
    let source: DHTAddress
    let bytes: Int
    let wanted: Set<DHTFamily>
    /// The bytes that an answer may have; `nil` for an address that has proven itself.
    let allowance: Int?
  }

  /// Nodes in an answer to an address that has proven nothing (8, as most nodes of the mainline).
  static let nodesForStrangers = 8
  /// Nodes beside a value in an answer, which is to fit a frame of Ethernet.
  static let nodesBesideValue = 8

  mutating func queryReceived(
    _ query: KRPCIncomingQuery, bytes: Int, from source: DHTAddress, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) {
    guard !configuration.isReadOnly else { return drop("readOnly") }
    let isKnown = isContact(query.sender, source)
    guard limiter.admits(source.host, isContact: isKnown, now: now) else {
      return drop("rateLimited")
    }
    let isProven = isKnown || source.host.isLoopback
    let context = QueryContext(
      transaction: query.transaction, source: source, bytes: bytes,
      wanted: query.wanted ?? [source.family],
      allowance: isProven
        ? nil : limiter.allowance(source.host, queryBytes: bytes, now: now))
    do throws(KRPCErrorCode) {
      let response = try answer(try query.content.get(), context, now: now, using: &generator)
      respond(response, context)
    } catch {
      statistics.errorsSent[error.code, default: 0] += 1
      perform(.send(error.encoded(transaction: query.transaction), to: source))
    }
    guard !query.isReadOnly, let sender = query.sender else { return }
    let contact = DHTContact(id: sender, address: source)
    if isKnown {
      tables[source.family].asked(contact, now: now)
    } else {
      verify(contact, now: now)
    }
  }

  private mutating func respond(_ response: KRPCResponse, _ context: QueryContext) {
    let message = response.encoded(transaction: context.transaction)
    if context.allowance != nil {
      limiter.spend(context.source.host, answerBytes: message.count, queryBytes: context.bytes)
    }
    perform(.send(message, to: context.source))
  }

  private mutating func answer(
    _ query: KRPCQuery, _ context: QueryContext, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) throws(KRPCErrorCode) -> KRPCResponse {
    let source = context.source
    var response = KRPCResponse(id: ids[source.family])
    if !source.host.isLocal { response.observedAddress = source }
    switch query {
    case .ping:
      break
    case .findNode(let target):
      addNodes(near: target, to: &response, context)
    case .getPeers(let key):
      response.token = tokens.token(for: source.host)
      addPeers(of: key, to: &response, context, now: now, using: &generator)
    case .announcePeer(let key, let port, let impliedPort, let token):
      guard tokens.isValid(token, from: source.host) else { throw .badAnnounceToken }
      // The address is that of the datagram: nobody announces somebody else (BEP 5).
      try keep(
        DHTAddress(host: source.host, port: impliedPort ? source.port : port), of: key, now: now)
    case .withdrawPeer(let key, let port, let token):
      guard tokens.isValid(token, from: source.host) else { throw .badWithdrawToken }
      _ = forget(DHTAddress(host: source.host, port: port), for: key)
    case .get(let target, let newerThan):
      response.token = tokens.token(for: source.host)
      addItem(target, newerThan, to: &response, context, now: now)
    case .put(let item, let compareAndSwap, let token):
      guard tokens.isValid(token, from: source.host) else { throw .badPutToken }
      try keep(item, compareAndSwap, from: source.host, now: now)
    }
    return response
  }

  // MARK: Reading

  /// The nearest nodes of the families that are wanted, as many as an answer may hold.
  private func addNodes(
    near target: NodeID, to response: inout KRPCResponse, _ context: QueryContext
  ) {
    for family in DHTFamily.allCases
    where context.wanted.contains(family) && configuration.families.contains(family) {
      var max = configuration.bucketSize / context.wanted.count
      if let allowance = context.allowance {
        let room = (allowance - 120) / family.compactNodeBytes / context.wanted.count
        max = min(max, Swift.max(room, Self.nodesForStrangers))
      }
      let nodes = tables[family].closest(to: target, max: max)
      switch family {
      case .ipv4: response.nodes = nodes
      case .ipv6: response.nodes6 = nodes
      }
    }
  }

  /// Peers if there are any, else nodes: never both, as existing nodes do.
  private func addPeers(
    of key: [UInt8], to response: inout KRPCResponse, _ context: QueryContext, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) {
    let family = context.source.family
    var max = configuration.peersPerAnswerMax
    if let allowance = context.allowance {
      max = min(max, Swift.max(1, (allowance - 120) / (family.compactBytes + 3)))
    }
    let peers = store.peers(of: key, family, now: now, max: max, using: &generator)
    if peers.isEmpty {
      addNodes(near: NodeID(prefixOf: key), to: &response, context)
    } else {
      response.peers = peers
    }
  }

  /// The value, if there is room for it, and nodes.
  private func addItem(
    _ target: [UInt8], _ newerThan: Int64?, to response: inout KRPCResponse,
    _ context: QueryContext, now: Duration
  ) {
    addNodes(near: NodeID(prefixOf: target), to: &response, context)
    guard let entry = items[target], entry.expiry > now else { return }
    if let signature = entry.item.signature, let newerThan, signature.sequence <= newerThan {
      response.sequence = signature.sequence
      return
    }
    response.nodes = response.nodes.map { Array($0.prefix(Self.nodesBesideValue)) }
    response.nodes6 = response.nodes6.map { Array($0.prefix(Self.nodesBesideValue)) }
    let bytes = entry.item.value.count + 400
    if let allowance = context.allowance, bytes > allowance { return }
    response.item = entry.item
  }

  // MARK: Writing

  private mutating func keep(
    _ peer: DHTAddress, of key: [UInt8], now: Duration
  ) throws(KRPCErrorCode) {
    do throws(PeerStore.Refusal) {
      guard try store.insert(peer, for: key, now: now) else { return }
    } catch {
      switch error {
      case .full: throw .storeFull
      case .addressLimit: throw .addressLimit
      }
    }
    results.change(key)
    perform(.peersChanged(key: key))
  }

  private mutating func keep(
    _ item: DHTItem, _ compareAndSwap: Int64?, from host: DHTHost, now: Duration
  ) throws(KRPCErrorCode) {
    if item.signature != nil, !item.isSigned(cryptography) { throw .invalidSignature }
    let target = item.target(cryptography)
    try items.insert(
      item, at: target, owner: host, compareAndSwap: compareAndSwap, now: now)
    perform(.itemStored(target: target))
  }
}
