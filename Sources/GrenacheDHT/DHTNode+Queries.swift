/// How a node answers queries.
extension DHTNode {
  /// What is known of a query beside its content.
  struct QueryContext {
    let transaction: [UInt8]?
    let source: DHTAddress
    let isContact: Bool
    let bytes: Int
    let wanted: Set<DHTFamily>
    /// The bytes that an answer may have; `nil` for loopback.
    let allowance: Int?
  }

  /// Bytes of an answer beside its nodes, peers or value: identifier, token, addresses, and what holds
  /// them together.
  static let answerOverheadBytes = 120
  /// Bytes of an answer with peers, which fits the smallest packet that every link of IPv6 carries whole
  /// (1,280 bytes, RFC 8200 §5): it is not split on its way, and who drops fragments has it, too.
  static let peersAnswerBytesMax = 1_232
  /// Bytes of nodes beside a value in an answer, which is to fit a frame of Ethernet: seven of IPv4, or
  /// five of IPv6, or less of both.
  static let nodeBytesBesideValue = 190

  mutating func queryReceived(
    _ query: KRPCIncomingQuery, bytes: Int, from source: DHTAddress, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) {
    guard !configuration.isReadOnly else { return drop("readOnly") }
    let isKnown = isContact(query.sender, source)
    guard limiter.admits(source.host, isContact: isKnown, now: now) else {
      return drop("rateLimited")
    }
    let context = QueryContext(
      transaction: query.transaction, source: source, isContact: isKnown, bytes: bytes,
      wanted: query.wanted ?? [source.family],
      allowance: source.host.isLoopback
        ? nil
        : limiter.allowance(source.host, isContact: isKnown, queryBytes: bytes, now: now))
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
      verify(contact, isStranger: true, now: now)
    }
  }

  private mutating func respond(_ response: KRPCResponse, _ context: QueryContext) {
    let message = response.encoded(transaction: context.transaction)
    if context.allowance != nil {
      limiter.spend(
        context.source.host, isContact: context.isContact, answerBytes: message.count,
        queryBytes: context.bytes)
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
      guard isValid(token, context, now: now) else { throw .badAnnounceToken }
      // The address is that of the datagram: nobody announces somebody else (BEP 5).
      try keep(
        DHTAddress(host: source.host, port: impliedPort ? source.port : port), of: key,
        isContact: context.isContact, now: now)
    case .withdrawPeer(let key, let port, let token):
      guard isValid(token, context, now: now) else { throw .badWithdrawToken }
      let peer = DHTAddress(host: source.host, port: port)
      if store.removeStrangers(peer, for: key, now: now) { changed(key) }
    case .get(let target, let newerThan):
      response.token = tokens.token(for: source.host)
      addItem(target, newerThan, to: &response, context, now: now)
    case .put(let item, let compareAndSwap, let token):
      guard isValid(token, context, now: now) else { throw .badPutToken }
      try keep(item, compareAndSwap, from: source.host, now: now)
    }
    return response
  }

  /// Whoever has a token is where it says. Contacts alone have more for it.
  private mutating func isValid(
    _ token: [UInt8], _ context: QueryContext, now: Duration
  ) -> Bool {
    guard tokens.isValid(token, from: context.source.host) else { return false }
    if context.isContact { limiter.tokenReceived(from: context.source.host, now: now) }
    return true
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
        let room = allowance - Self.answerOverheadBytes
        max = Swift.max(0, min(max, room / family.compactNodeBytes / context.wanted.count))
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
    let room = min(context.allowance ?? .max, Self.peersAnswerBytesMax) - Self.answerOverheadBytes
    let max = min(configuration.peersPerAnswerMax, Swift.max(1, room / (family.compactBytes + 3)))
    // The same service may be here under a loopback address and under one that others see.
    var seen: Set<DHTAddress> = []
    let peers = store.draw(max, of: key, now: now, using: &generator) { peer in
      guard let shown = visible(peer, to: context.source), shown.family == family,
        seen.insert(shown).inserted
      else { return nil }
      return shown
    }
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
    let bytes = entry.item.value.count + 400
    if let allowance = context.allowance, bytes > allowance { return }
    let families = (response.nodes == nil ? 0 : 1) + (response.nodes6 == nil ? 0 : 1)
    let share = Self.nodeBytesBesideValue / max(1, families)
    response.nodes = response.nodes.map {
      Array($0.prefix(share / DHTFamily.ipv4.compactNodeBytes))
    }
    response.nodes6 = response.nodes6.map {
      Array($0.prefix(share / DHTFamily.ipv6.compactNodeBytes))
    }
    response.item = entry.item
  }

  // MARK: Writing

  private mutating func keep(
    _ peer: DHTAddress, of key: [UInt8], isContact: Bool, now: Duration
  ) throws(KRPCErrorCode) {
    defer { tellSwept() }
    do throws(PeerStore.Refusal) {
      let (isNew, displaced) = try store.insert(peer, for: key, isContact: isContact, now: now)
      for other in Set(displaced).subtracting([key]).sorted(by: { $0.lexicographicallyPrecedes($1) }
      ) {
        changed(other)
      }
      guard isNew else { return perform(.peersRenewed(key: key)) }
    } catch {
      switch error {
      case .full: throw .storeFull
      case .addressLimit, .callerLimit: throw .addressLimit
      }
    }
    changed(key)
  }

  /// What is kept of a key has changed.
  mutating func changed(_ key: [UInt8]) {
    outdateResults(of: key)
    perform(.peersChanged(key: key))
  }

  /// Tells of what has expired and was dropped to make room, for a new announcement or for none.
  mutating func tellSwept() {
    for key in store.takeSwept().sorted(by: { $0.lexicographicallyPrecedes($1) }) { changed(key) }
  }

  private mutating func keep(
    _ item: DHTItem, _ compareAndSwap: Int64?, from host: DHTHost, now: Duration
  ) throws(KRPCErrorCode) {
    if item.signature != nil, !item.isSigned(cryptography) { throw .invalidSignature }
    let target = item.target(cryptography)
    let evicted = try items.insert(
      item, at: target, owner: host, compareAndSwap: compareAndSwap, now: now)
    removed(evicted)
    perform(.itemStored(target: target))
  }

  /// Tells which values are kept no more.
  mutating func removed(_ targets: [[UInt8]]) {
    for target in targets { perform(.itemRemoved(target: target)) }
  }
}
