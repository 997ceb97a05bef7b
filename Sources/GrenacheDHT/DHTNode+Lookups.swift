/// A lookup under way and who waits for it.
struct LookupState: Sendable {
  var lookup: Lookup
  var waiting: [DHTLookupID] = []
  /// Announcements that need the tokens it finds.
  var announces: [UInt64] = []
}

/// Lookups of a node.
extension DHTNode {
  /// Looks for the peers of `key`; ends with `lookupFinished`. Callers of the same key at the same time share
  /// one lookup.
  package mutating func lookUp(_ key: [UInt8], now: Duration) -> DHTLookupID {
    let token = DHTLookupID(number: takeNumber())
    let number = peersLookup(key, now: now)
    lookups[number]?.waiting.append(token)
    advance(number, now: now)
    return token
  }

  /// The lookup of `key` that is under way, or a new one, which is yet to be advanced.
  mutating func peersLookup(_ key: [UInt8], now: Duration) -> UInt64 {
    if let known = lookupByKey[key] { return known }
    let number = makeLookup(.peers(key: key), target: NodeID(prefixOf: key))
    lookupByKey[key] = number
    return number
  }

  mutating func startLookup(_ purpose: Lookup.Purpose, target: NodeID, now: Duration) {
    let number = makeLookup(purpose, target: target)
    advance(number, now: now)
  }

  private mutating func makeLookup(_ purpose: Lookup.Purpose, target: NodeID) -> UInt64 {
    let number = takeNumber()
    let contacts = table.closest(to: target, max: configuration.bucketSize)
    // With few contacts the bootstrap nodes are asked, too: a network that has just begun is found.
    let bootstrap =
      table.count < max(1, configuration.bootstrap.count) ? configuration.bootstrap : []
    lookups[number] = LookupState(
      lookup: Lookup(
        purpose, target: target, own: id, width: configuration.bucketSize,
        parallelism: configuration.parallelism, contacts: contacts, bootstrap: bootstrap))
    return number
  }

  mutating func takeNumber() -> UInt64 {
    defer { nextNumber += 1 }
    return nextNumber
  }

  /// Sends what the lookup wants sent, and ends it when there is nothing more to wait for.
  mutating func advance(_ number: UInt64, now: Duration) {
    guard var state = lookups[number] else { return }
    let query: KRPCQuery
    switch state.lookup.purpose {
    case .nodes: query = .findNode(target: state.lookup.target)
    case .peers(let key): query = .getPeers(key: key)
    }
    while let next = state.lookup.next() {
      let purpose = Transactions.Purpose.lookup(number)
      if !send(query, to: next.address, id: next.id, purpose, now: now) {
        state.lookup.queryFailed(next.address)
      }
    }
    lookups[number] = state
    if state.lookup.isFinished { finish(number, state, now: now) }
  }

  mutating func lookupAnswered(
    _ number: UInt64, _ contact: DHTContact, _ response: KRPCResponse, now: Duration
  ) {
    guard lookups[number] != nil else { return }
    _ = lookups[number]?.lookup.answerReceived(from: contact, response)
    advance(number, now: now)
  }

  mutating func lookupQueryFailed(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    lookups[number]?.lookup.queryFailed(address)
    advance(number, now: now)
  }

  mutating func lookupQuerySlow(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    lookups[number]?.lookup.querySlow(address)
    advance(number, now: now)
  }

  private mutating func finish(_ number: UInt64, _ state: LookupState, now: Duration) {
    lookups[number] = nil
    guard case .peers(let key) = state.lookup.purpose else { return }
    lookupByKey[key] = nil
    keepTokens(state.lookup.tokens, for: key, now: now)
    var result = DHTLookupResult(
      peers: state.lookup.peers, hops: state.lookup.hops, nodes: state.lookup.answered)
    for peer in store.peers(of: key, now: now) where !result.peers.contains(peer) {
      result.peers.append(peer)
    }
    for token in state.waiting { perform(.lookupFinished(token, result)) }
    for announce in state.announces { sendAnnounces(announce, now: now) }
  }
}
