/// One iterative lookup in one network (Kademlia §2.3, BEP 5): asks the nodes nearest to a target for
/// nearer ones until the nearest have all answered.
///
/// It knows no socket and no clock: the node asks it whom to query and tells it what came of that.
struct Lookup: Sendable {
  private enum Progress: Hashable, Sendable {
    case fresh
    case queried
    /// Longer ago than answers take: somebody else is asked beside it, and those who have found enough
    /// do not wait for it.
    case late
    /// Queried a while ago: nobody waits for it any more, but it may still answer.
    case slow
    case answered(token: [UInt8]?)
    case failed
  }
  private struct Candidate: Sendable {
    let contact: DHTContact
    /// How many answers led here: 1 for a contact that was known at the beginning.
    let hop: UInt16
    var progress = Progress.fresh
  }

  let target: NodeID
  private(set) var hops = 0
  /// The nodes that have answered, in the order in which they did.
  private(set) var answered: [DHTContact] = []
  private let own: NodeID
  private let configuration: DHTConfiguration
  /// Sorted, the nearest first.
  private var candidates: [Candidate] = []
  /// Addresses whose identifier is not known yet, and what has become of asking them.
  private var bootstrap: [(address: DHTAddress, progress: Progress)] = []
  private var inFlight = 0
  private var queriesSent = 0

  private var width: Int { configuration.bucketSize }
  /// Candidates kept; those further away than all of them are of no use.
  private var candidatesMax: Int { width * 4 }
  /// Queries of one lookup: whoever names nearer nodes for ever is not followed for ever.
  private var queriesMax: Int { width * 16 }

  init(
    target: NodeID, own: NodeID, _ configuration: DHTConfiguration, contacts: [DHTContact],
    bootstrap: [DHTAddress]
  ) {
    self.target = target
    self.own = own
    self.configuration = configuration
    candidates.reserveCapacity(candidatesMax + 1)
    for contact in contacts { add(contact, hop: 1) }
    for address in bootstrap where !contacts.contains(where: { $0.address == address }) {
      self.bootstrap.append((address, .fresh))
    }
  }

  /// What to query next; `nil` when enough queries are under way or there is nobody to ask.
  mutating func next() -> (address: DHTAddress, id: NodeID?)? {
    guard inFlight < configuration.parallelism, queriesSent < queriesMax else { return nil }
    if let next = nextToAsk() {
      queriesSent += 1
      return next
    }
    return nil
  }

  private mutating func nextToAsk() -> (address: DHTAddress, id: NodeID?)? {
    if let index = nextCandidate() {
      candidates[index].progress = .queried
      inFlight += 1
      return (candidates[index].contact.address, candidates[index].contact.id)
    }
    for index in bootstrap.indices where bootstrap[index].progress == .fresh {
      bootstrap[index].progress = .queried
      inFlight += 1
      return (bootstrap[index].address, nil)
    }
    return nil
  }

  /// Whether the nearest have all answered or are not waited for.
  var isFinished: Bool {
    guard inFlight == 0 else { return false }
    guard !candidates.contains(where: { $0.progress == .late }),
      !bootstrap.contains(where: { $0.progress == .late })
    else { return false }
    return queriesSent >= queriesMax
      || !bootstrap.contains { $0.progress == .fresh } && nextCandidate() == nil
  }

  /// A node has answered with these nodes.
  mutating func answerReceived(
    from contact: DHTContact, token: [UInt8]?, nodes: [DHTContact]
  ) {
    let hop = settle(contact, .answered(token: token))
    hops = max(hops, Int(hop))
    answered.append(contact)
    add(nodes, namedBy: contact, hop: hop == .max ? hop : hop + 1)
  }

  /// Nodes that an answer of the other network names.
  mutating func add(_ nodes: [DHTContact], namedBy source: DHTContact) {
    add(nodes, namedBy: source, hop: 2)
  }

  /// Of what one answer names, as many of the nearest count as a bucket holds, of each network only so
  /// many; and what is said to be on a private network, or on loopback, only if the answer comes from
  /// there.
  private mutating func add(_ nodes: [DHTContact], namedBy source: DHTContact, hop: UInt16) {
    var nearest = nodes
    if nodes.count > width {
      nearest = nodes.map { (target.distance(to: $0.id), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
    }
    var prefixes = PrefixCount(configuration)
    var count = 0
    for node in nearest where source.address.host.mayName(node.address.host) {
      guard count < width else { return }
      guard prefixes.admits(node.address.host) else { continue }
      add(node, hop: hop)
      count += 1
    }
  }

  /// A query has not been answered in time, or with an error.
  mutating func queryFailed(_ address: DHTAddress) {
    change(address) { $0 == .queried || $0 == .late || $0 == .slow ? .failed : $0 }
  }

  /// A query takes longer than expected: the lookup asks somebody else meanwhile.
  mutating func queryLate(_ address: DHTAddress) {
    change(address) { $0 == .queried ? .late : $0 }
  }

  /// A query is taking long: the lookup goes on without it.
  mutating func querySlow(_ address: DHTAddress) {
    change(address) { $0 == .queried || $0 == .late ? .slow : $0 }
  }

  /// How many networks the nearest of `sources` are of, up to the first node that is still to be heard:
  /// whoever is further away cannot end a lookup before those who are nearer had their say.
  func settledNetworks(among sources: Set<DHTAddress>) -> Int {
    var networks: Set<UInt64> = []
    var prefixes = PrefixCount(configuration)
    for candidate in candidates {
      let address = candidate.contact.address
      switch candidate.progress {
      case .fresh, .queried:
        if prefixes.admits(address.host) { return networks.count }
      case .answered:
        _ = prefixes.admits(address.host)
        if sources.contains(address) { networks.insert(address.sourceNetwork) }
      case .late, .slow, .failed:
        break
      }
    }
    return networks.count
  }

  /// The nearest nodes that gave a token, the nearest first.
  var tokens: [(contact: DHTContact, token: [UInt8])] {
    var result: [(DHTContact, [UInt8])] = []
    var prefixes = PrefixCount(configuration)
    for candidate in candidates where result.count < width {
      if case .answered(let token?) = candidate.progress,
        prefixes.admits(candidate.contact.address.host)
      {
        result.append((candidate.contact, token))
      }
    }
    return result
  }

  // MARK: Candidates

  /// The nearest that has not been asked, if it is among those that count: the `width` nearest that
  /// have not failed, of each network only so many. Slow ones do not take a place.
  private func nextCandidate() -> Int? {
    var places = width
    var prefixes = PrefixCount(configuration)
    for index in candidates.indices {
      switch candidates[index].progress {
      case .fresh:
        if prefixes.admits(candidates[index].contact.address.host) { return index }
      case .queried, .late, .answered:
        if prefixes.admits(candidates[index].contact.address.host) { places -= 1 }
        if places == 0 { return nil }
      case .slow, .failed:
        break
      }
    }
    return nil
  }

  private mutating func add(_ contact: DHTContact, hop: UInt16) {
    guard contact.id != own else { return }
    let distance = target.distance(to: contact.id)
    let position = position(of: distance)
    // An identifier alone is no one: whoever names it first might name it where nobody is.
    var same = position
    while same < candidates.count, candidates[same].contact.id == contact.id {
      if candidates[same].contact.address == contact.address { return }
      same += 1
    }
    // Most are known by now: the costly question comes last.
    guard configuration.accepts(contact) else { return }
    guard makeRoom(for: contact.address.host, at: position) else { return }
    candidates.insert(Candidate(contact: contact, hop: hop), at: self.position(of: distance))
  }

  /// Whether there is a place for somebody of that network, made by dropping somebody further away if
  /// need be. Whoever has answered, or was known at the beginning, makes room for nobody who may not
  /// even exist.
  private mutating func makeRoom(for host: DHTHost, at position: Int) -> Bool {
    if configuration.limitsPrefix(of: host) {
      let prefix = host.prefix
      let same = candidates.indices.filter {
        candidates[$0].contact.address.host.prefix == prefix
          && candidates[$0].progress != .failed
      }
      // Twice as many as are asked: some may be gone.
      if same.count >= configuration.nodesPerPrefixMax * 2 {
        guard let last = same.last(where: { candidates[$0].progress == .fresh }), last >= position
        else { return false }
        candidates.remove(at: last)
      }
    }
    guard candidates.count >= candidatesMax else { return true }
    let failed = candidates.lastIndex { $0.progress == .failed || $0.progress == .slow }
    let named = candidates.lastIndex { $0.progress == .fresh && $0.hop > 1 }
    // Behind so many that have answered, the furthest counts for nothing.
    let index = failed ?? named ?? candidates.indices.last
    guard let index, index >= position || index == failed else { return false }
    if candidates.remove(at: index).progress == .queried { inFlight -= 1 }
    return true
  }

  /// Where a candidate at that distance stands, or would.
  private func position(of distance: NodeID) -> Int {
    var low = 0
    var high = candidates.count
    while low < high {
      let middle = (low + high) / 2
      if target.distance(to: candidates[middle].contact.id) < distance {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  /// Notes an answer; returns the hop at which the node was found.
  private mutating func settle(_ contact: DHTContact, _ progress: Progress) -> UInt16 {
    for index in bootstrap.indices where bootstrap[index].address == contact.address {
      if bootstrap[index].progress == .queried { inFlight -= 1 }
      bootstrap[index].progress = progress
    }
    add(contact, hop: 1)
    var hop: UInt16 = 1
    for index in candidates.indices where candidates[index].contact.address == contact.address {
      if candidates[index].progress == .queried { inFlight -= 1 }
      if candidates[index].contact.id == contact.id {
        candidates[index].progress = progress
        hop = candidates[index].hop
      } else {
        // Whoever was expected at that address is there no more: it was started anew.
        candidates[index].progress = .failed
      }
    }
    return hop
  }

  private mutating func change(_ address: DHTAddress, _ body: (Progress) -> Progress) {
    for index in bootstrap.indices where bootstrap[index].address == address {
      if bootstrap[index].progress == .queried { inFlight -= 1 }
      bootstrap[index].progress = body(bootstrap[index].progress)
      if bootstrap[index].progress == .queried { inFlight += 1 }
    }
    for index in candidates.indices where candidates[index].contact.address == address {
      if candidates[index].progress == .queried { inFlight -= 1 }
      candidates[index].progress = body(candidates[index].progress)
      if candidates[index].progress == .queried { inFlight += 1 }
    }
  }
}

/// Counts how many nodes of a network take part, where that is limited.
struct PrefixCount {
  private var seen: [UInt64] = []
  // Not the configuration itself: these are made for each datagram, and to copy it costs more than to count.
  private let limitsLocalPrefixes: Bool
  private let nodesPerPrefixMax: Int

  init(_ configuration: DHTConfiguration) {
    limitsLocalPrefixes = configuration.limitsLocalPrefixes
    nodesPerPrefixMax = configuration.nodesPerPrefixMax
  }

  /// Whether one more of that network may take part, which it does then.
  mutating func admits(_ host: DHTHost) -> Bool {
    guard host.isLimited(limitsLocalPrefixes) else { return true }
    let prefix = host.prefix
    var count = 0
    for one in seen where one == prefix { count += 1 }
    guard count < nodesPerPrefixMax else { return false }
    seen.append(prefix)
    return true
  }
}
