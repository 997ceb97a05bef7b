/// What a lookup is for.
enum LookupPurpose: Hashable, Sendable {
  /// Find the nodes nearest to a point.
  case nodes(NodeID)
  /// Find nodes near a point until its bucket of the routing table is full.
  case filling(NodeID)
  /// Find peers and tokens.
  case peers(key: [UInt8])
  /// Find a value and tokens.
  case item(target: [UInt8], salt: [UInt8])

  var target: NodeID {
    switch self {
    case .nodes(let target), .filling(let target): target
    case .peers(let key): NodeID(prefixOf: key)
    case .item(let target, _): NodeID(prefixOf: target)
    }
  }

  var query: KRPCQuery {
    switch self {
    case .nodes(let target), .filling(let target): .findNode(target: target)
    case .peers(let key): .getPeers(key: key)
    case .item(let target, _): .get(target: target, newerThan: nil)
    }
  }
}

/// A lookup under way, in one network or in both, and who waits for it.
struct LookupState: Sendable {
  /// Peers in a result; more than any caller takes.
  static let peersMax = 1_000
  /// Peers collected of all answers, and of the answers of one network: nobody crowds the others out.
  static let collectedMax = 4_000
  static let collectedPerNetworkMax = 200

  let purpose: LookupPurpose
  /// One for each network.
  var parts: [(family: DHTFamily, lookup: Lookup)]
  var found: DHTGetResult?
  var waiting: [DHTRequestID] = []
  /// What this node keeps itself, for those who want to know: others who share the lookup do not.
  private var own: [DHTRequestID: DHTGetResult] = [:]
  /// Whether queries could not be sent.
  var isIncomplete = false
  /// Whether what it looks for has changed since it began: it may have found what is no more.
  var isOutdated = false
  /// What is to be stored with the tokens that it finds.
  var deliveries: [UInt64] = []
  /// Peers by the networks of the nodes that have named them.
  private var named: [(network: UInt64, peers: [DHTAddress])] = []
  private var knownPeers: Set<DHTAddress> = []
  /// The nodes that have named peers.
  private var sources: Set<DHTAddress> = []

  init(_ purpose: LookupPurpose, _ parts: [(DHTFamily, Lookup)]) {
    self.purpose = purpose
    self.parts = parts
  }

  /// Adds the peers that a node has named, as many as one answer may hold; returns those that are new.
  mutating func add(
    _ peers: [DHTAddress], by source: DHTAddress, _ configuration: DHTConfiguration
  ) -> [DHTAddress] {
    let usable = peers.lazy.filter {
      $0.port > 0 && $0.host.isUnicast && source.host.mayName($0.host)
    }.prefix(configuration.peersPerAnswerMax)
    guard !usable.isEmpty else { return [] }
    sources.insert(source)
    let network = source.sourceNetwork
    let index = named.firstIndex { $0.network == network } ?? named.endIndex
    if index == named.endIndex { named.append((network, [])) }
    var new: [DHTAddress] = []
    for peer in usable
    where named[index].peers.count < Self.collectedPerNetworkMax
      && knownPeers.count < Self.collectedMax
    {
      named[index].peers.append(peer)
      if knownPeers.insert(peer).inserted { new.append(peer) }
    }
    return new
  }

  /// Whether any node has named peers.
  var hasPeers: Bool { !knownPeers.isEmpty }

  /// Peers of every source in turn, `own` the first of them: those that many name come early, and no
  /// source has more than its share.
  func peers(with own: [DHTAddress]) -> [DHTAddress] {
    let lists = [own] + named.map(\.peers)
    var result: [DHTAddress] = []
    var taken: Set<DHTAddress> = []
    for position in 0..<(lists.map(\.count).max() ?? 0) {
      for list in lists where position < list.count && result.count < Self.peersMax {
        if taken.insert(list[position]).inserted { result.append(list[position]) }
      }
    }
    return result
  }

  /// Somebody waits who is to be told what this node keeps, unless something newer is found.
  mutating func wait(_ id: DHTRequestID, own result: DHTGetResult?) {
    waiting.append(id)
    own[id] = result
  }

  /// What is told to one of those who wait for an item.
  func result(for id: DHTRequestID) -> DHTGetResult? {
    guard let own = own[id], let found else { return own[id] ?? found }
    let newest = found.item.signature?.sequence ?? .min
    return (own.item.signature?.sequence ?? .min) >= newest ? own : found
  }

  /// Whether what has been found is enough for those who wait, with no need for tokens.
  func isSatisfied(_ configuration: DHTConfiguration) -> Bool {
    guard deliveries.isEmpty else { return false }
    switch purpose {
    case .nodes, .filling: return false
    case .peers:
      let count = parts.reduce(0) { $0 + $1.lookup.settledNetworks(among: sources) }
      return count >= configuration.sufficientAnswers
    // A newer mutable item may be elsewhere.
    case .item: return found.map { $0.item.signature == nil } ?? false
    }
  }

  var isFinished: Bool { parts.allSatisfy { $0.lookup.isFinished } }
  var hops: Int { parts.map(\.lookup.hops).max() ?? 0 }
  var answered: [DHTContact] { parts.flatMap(\.lookup.answered) }
  var tokens: [(contact: DHTContact, token: [UInt8])] { parts.flatMap(\.lookup.tokens) }
}

/// Lookups of a node.
extension DHTNode {
  /// Looks for the peers of `key`; tells what it finds with `peersFound` and ends with `lookupFinished`,
  /// which may bring others as well. Callers of the same key at the same time share one lookup, and for a
  /// moment its result.
  ///
  /// - Parameters:
  ///   - tellsKnown: whether what is known already is told with `peersFound` at once.
  ///   - usesCache: whether the result of an earlier lookup will do.
  package mutating func lookUp(
    _ key: [UInt8], tellsKnown: Bool = false, usesCache: Bool = true, now: Duration
  ) -> DHTRequestID {
    let id = DHTRequestID(number: takeNumber())
    if usesCache, let cached = results.result(for: key, now: now) {
      statistics.lookupsFromCache += 1
      perform(.lookupFinished(id, cached))
      return id
    }
    let number = lookup(.peers(key: key))
    lookups[number]?.waiting.append(id)
    if tellsKnown { tellKnown(number, key, to: id, now: now) }
    advance(number, now: now)
    return id
  }

  /// Tells somebody who begins to wait what is kept here, and what others who wait have been told.
  private mutating func tellKnown(
    _ number: UInt64, _ key: [UInt8], to id: DHTRequestID, now: Duration
  ) {
    let own = store.peers(of: key, now: now)
    guard let state = lookups[number], !own.isEmpty || state.hasPeers else { return }
    perform(.peersFound(id, state.peers(with: own)))
  }

  /// Looks for an item; ends with `getFinished`. An immutable one of the own store is found at once; of
  /// a mutable one there may be a newer one elsewhere.
  ///
  /// - Parameter salt: that of a mutable item, which its signature covers.
  package mutating func get(
    _ target: [UInt8], salt: [UInt8], usesOwnStore: Bool = true, now: Duration
  ) -> DHTRequestID {
    let id = DHTRequestID(number: takeNumber())
    let own = usesOwnStore ? items[target].flatMap { $0.expiry > now ? $0.item : nil } : nil
    let ownResult = own.map { DHTGetResult(item: $0, id: self.id, token: nil) }
    if let ownResult, ownResult.item.signature == nil {
      perform(.getFinished(id, ownResult))
      return id
    }
    let ownSalt = own?.signature?.salt ?? salt
    let number = lookup(.item(target: target, salt: ownSalt))
    lookups[number]?.wait(id, own: ownResult)
    advance(number, now: now)
    return id
  }

  /// The lookup of that purpose that is under way, or a new one, which is yet to be advanced.
  mutating func lookup(_ purpose: LookupPurpose) -> UInt64 {
    if let known = lookupByPurpose[purpose] { return known }
    // With few contacts the bootstrap nodes are asked, too: a network that has just begun is found.
    let isAlone = tables.count < max(1, configuration.bootstrap.count)
    let number = makeLookup(
      purpose, configuration.families, bootstrap: isAlone ? configuration.bootstrap : [])
    lookupByPurpose[purpose] = number
    return number
  }

  mutating func makeLookup(
    _ purpose: LookupPurpose, _ families: Set<DHTFamily>, bootstrap: [DHTAddress]
  ) -> UInt64 {
    let number = takeNumber()
    statistics.lookupsStarted += 1
    let parts = DHTFamily.allCases.filter { families.contains($0) }.map { family in
      let contacts = tables[family].closest(to: purpose.target, max: configuration.bucketSize)
      let lookup = Lookup(
        target: purpose.target, own: ids[family], configuration, contacts: contacts,
        bootstrap: bootstrap.filter { $0.family == family })
      return (family, lookup)
    }
    lookups[number] = LookupState(purpose, parts)
    return number
  }

  /// Sends what the lookup wants sent, and ends it when there is nothing more to wait for.
  mutating func advance(_ number: UInt64, now: Duration) {
    guard var state = lookups.removeValue(forKey: number) else { return }
    let query = state.purpose.query
    for index in state.parts.indices {
      while let next = state.parts[index].lookup.next() {
        let purpose = Transactions.Purpose.lookup(number)
        if !send(query, to: next.address, id: next.id, purpose, now: now) {
          state.parts[index].lookup.queryFailed(next.address)
          state.isIncomplete = true
        }
      }
    }
    if state.isFinished {
      finish(number, state, isComplete: true, now: now)
    } else {
      lookups[number] = state
    }
  }

  mutating func lookupAnswered(
    _ number: UInt64, _ contact: DHTContact, _ response: KRPCResponse, now: Duration
  ) {
    guard var state = lookups.removeValue(forKey: number) else { return }
    let family = contact.address.family
    for index in state.parts.indices {
      let nodes = state.parts[index].family == .ipv4 ? response.nodes : response.nodes6
      if state.parts[index].family == family {
        state.parts[index].lookup.answerReceived(
          from: contact, token: response.token, nodes: nodes ?? [])
      } else if let nodes {
        state.parts[index].lookup.add(nodes, namedBy: contact)
      }
    }
    if case .peers(let key) = state.purpose, let named = response.peers {
      let new = state.add(named, by: contact.address, configuration)
      if !new.isEmpty {
        results.change(key)
        for id in state.waiting { perform(.peersFound(id, new)) }
      }
    }
    if let item = response.item { consider(item, response, for: &state) }
    if isSatisfied(state) {
      return finish(number, state, isComplete: false, now: now)
    }
    lookups[number] = state
    advance(number, now: now)
  }

  private func isSatisfied(_ state: LookupState) -> Bool {
    guard case .filling(let point) = state.purpose else {
      return state.isSatisfied(configuration)
    }
    return state.parts.allSatisfy { tables[$0.family].isBucketFull(at: point) }
  }

  /// Keeps an item that an answer brings, if it is genuine, and newer than what was found before.
  private func consider(_ item: DHTItem, _ response: KRPCResponse, for state: inout LookupState) {
    guard case .item(let target, let salt) = state.purpose else { return }
    var item = item
    item.signature?.salt = salt
    if let known = state.found?.item {
      guard let old = known.signature?.sequence, let new = item.signature?.sequence, new > old
      else { return }
    }
    guard item.target(cryptography) == target else { return }
    guard item.signature == nil || item.isSigned(cryptography) else { return }
    state.found = DHTGetResult(item: item, id: response.id, token: response.token)
  }

  mutating func lookupQueryFailed(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    change(number, now: now) { $0.queryFailed(address) }
  }

  mutating func lookupQueryLate(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    change(number, now: now) { $0.queryLate(address) }
  }

  mutating func lookupQuerySlow(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    change(number, now: now) { $0.querySlow(address) }
  }

  private mutating func change(_ number: UInt64, now: Duration, _ body: (inout Lookup) -> Void) {
    guard var state = lookups.removeValue(forKey: number) else { return }
    for index in state.parts.indices { body(&state.parts[index].lookup) }
    // It may have been waited for, with enough of an answer from others.
    if isSatisfied(state) { return finish(number, state, isComplete: false, now: now) }
    lookups[number] = state
    advance(number, now: now)
  }

  /// - Parameter isComplete: whether the nearest nodes have been found, not only enough of an answer.
  private mutating func finish(
    _ number: UInt64, _ state: LookupState, isComplete: Bool, now: Duration
  ) {
    if lookupByPurpose[state.purpose] == number { lookupByPurpose[state.purpose] = nil }
    switch state.purpose {
    case .nodes, .filling:
      return
    case .peers(let key):
      if isComplete, !state.isIncomplete { tokenTables.keep(state.tokens, for: key, now: now) }
      statistics.peerLookupsFinished += 1
      statistics.hopsTotal += state.hops
      statistics.hopsMax = max(statistics.hopsMax, state.hops)
      let result = result(of: key, number, state, now: now)
      if isWorthKeeping(state) { results.keep(result, for: key, now: now, configuration) }
      for id in state.waiting { perform(.lookupFinished(id, result)) }
    case .item(let target, _):
      if isComplete, !state.isIncomplete { tokenTables.keep(state.tokens, for: target, now: now) }
      for id in state.waiting { perform(.getFinished(id, state.result(for: id))) }
    }
    for delivery in state.deliveries { sendDelivery(delivery, found: state.found?.item, now: now) }
  }

  private func result(
    of key: [UInt8], _ number: UInt64, _ state: LookupState, now: Duration
  ) -> DHTLookupResult {
    // They are in order: each lookup begins elsewhere, lest the first of many get all the calls.
    let own = store.peers(of: key, now: now)
    let start = own.isEmpty ? 0 : Int((number &* 0x9e37_79b9) % UInt64(own.count))
    var result = DHTLookupResult(
      peers: state.peers(with: Array(own[start...] + own[..<start])), hops: state.hops,
      nodes: state.answered)
    result.isIncomplete = state.isIncomplete
    return result
  }

  /// What a lookup of `key` that goes on has found so far, this node's own store included, in the order of
  /// a result; `nil` when that is nobody. When it has just ended, its result.
  package func found(of key: [UInt8], now: Duration) -> DHTLookupResult? {
    guard let number = lookupByPurpose[.peers(key: key)], let state = lookups[number] else {
      return results.result(for: key, now: now)
    }
    var result = result(of: key, number, state, now: now)
    result.isIncomplete = true
    return result.peers.isEmpty ? nil : result
  }

  /// Whether others may be told the result as well: not of what changes meanwhile, nor of what will be
  /// withdrawn from those who have just named it.
  private func isWorthKeeping(_ state: LookupState) -> Bool {
    !state.isIncomplete && !state.isOutdated
      && !state.deliveries.contains { deliveries[$0]?.content.isWithdrawal == true }
  }

  /// Peers of a key have changed: what was found is not told again, nor what is just being found.
  mutating func outdateResults(of key: [UInt8]) {
    results.change(key)
    if let number = lookupByPurpose[.peers(key: key)] { lookups[number]?.isOutdated = true }
  }
}
