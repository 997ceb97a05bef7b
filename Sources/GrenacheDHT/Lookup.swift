/// One iterative lookup (Kademlia §2.3, BEP 5): asks the nodes nearest to a target for nearer ones until
/// the nearest have all answered.
///
/// It knows no socket and no clock: the node asks it whom to query and tells it what came of that.
struct Lookup: Sendable {
  enum Purpose: Hashable, Sendable {
    /// Find nodes: to fill the routing table.
    case nodes
    /// Find peers and tokens.
    case peers(key: [UInt8])
  }

  private enum Progress: Hashable, Sendable {
    case fresh
    case queried
    /// Queried a while ago: nobody waits for it any more, but it may still answer.
    case slow
    case answered(token: [UInt8]?)
    case failed
  }
  private struct Candidate: Sendable {
    let contact: DHTContact
    let distance: NodeID
    /// How many answers led here: 1 for a contact that was known at the beginning.
    let hop: Int
    var progress = Progress.fresh
  }

  let purpose: Purpose
  let target: NodeID
  private(set) var peers: [DHTAddress] = []
  private(set) var hops = 0
  /// The nodes that have answered, in the order in which they did.
  private(set) var answered: [DHTContact] = []
  private let own: NodeID
  private let width: Int
  private let parallelism: Int
  /// Sorted, the nearest first.
  private var candidates: [Candidate] = []
  private var knownPeers: Set<DHTAddress> = []
  /// Addresses whose identifier is not known yet, and what has become of asking them.
  private var bootstrap: [DHTAddress: Progress] = [:]

  /// Candidates kept; those further away than all of them are of no use.
  private var candidatesMax: Int { width * 8 }
  /// Peers collected; more than any caller takes.
  static let peersMax = 1_000

  init(
    _ purpose: Purpose, target: NodeID, own: NodeID, width: Int, parallelism: Int,
    contacts: [DHTContact], bootstrap: [DHTAddress]
  ) {
    self.purpose = purpose
    self.target = target
    self.own = own
    self.width = width
    self.parallelism = parallelism
    for contact in contacts { add(contact, hop: 1) }
    for address in bootstrap where !contacts.contains(where: { $0.address == address }) {
      self.bootstrap[address] = .fresh
    }
  }

  /// What to query next; `nil` when enough queries are under way or there is nobody to ask.
  mutating func next() -> (address: DHTAddress, id: NodeID?)? {
    guard inFlight < parallelism else { return nil }
    if let index = frontier().first(where: { candidates[$0].progress == .fresh }) {
      candidates[index].progress = .queried
      return (candidates[index].contact.address, candidates[index].contact.id)
    }
    let fresh = bootstrap.filter { $0.value == .fresh }.keys
    guard let address = fresh.min(by: { ($0.ip, $0.port) < ($1.ip, $1.port) }) else { return nil }
    bootstrap[address] = .queried
    return (address, nil)
  }

  /// Whether the nearest have all answered or are not waited for.
  var isFinished: Bool {
    inFlight == 0 && !bootstrap.values.contains(.fresh)
      && !frontier().contains { candidates[$0].progress == .fresh }
  }

  /// A node has answered; returns the peers that are new.
  mutating func answerReceived(
    from contact: DHTContact, _ response: KRPCResponse
  ) -> [DHTAddress] {
    let hop = settle(contact, .answered(token: response.token))
    hops = max(hops, hop)
    answered.append(contact)
    for node in response.nodes ?? [] { add(node, hop: hop + 1) }
    var new: [DHTAddress] = []
    for peer in response.peers ?? [] where peer.port > 0 && peers.count < Self.peersMax {
      if knownPeers.insert(peer).inserted {
        peers.append(peer)
        new.append(peer)
      }
    }
    return new
  }

  /// A query has not been answered in time, or with an error.
  mutating func queryFailed(_ address: DHTAddress) {
    settle(address, .failed)
  }

  /// A query is taking long: the lookup goes on without it.
  mutating func querySlow(_ address: DHTAddress) {
    for index in candidates.indices
    where candidates[index].contact.address == address && candidates[index].progress == .queried {
      candidates[index].progress = .slow
    }
    if bootstrap[address] == .queried { bootstrap[address] = .slow }
  }

  /// The nearest nodes that gave a token, the nearest first.
  var tokens: [(contact: DHTContact, token: [UInt8])] {
    var result: [(DHTContact, [UInt8])] = []
    for candidate in candidates where result.count < width {
      if case .answered(let token?) = candidate.progress {
        result.append((candidate.contact, token))
      }
    }
    return result
  }

  // MARK: Candidates

  private var inFlight: Int {
    candidates.count { $0.progress == .queried } + bootstrap.values.count { $0 == .queried }
  }

  /// The nearest candidates that have not failed; slow ones do not take a place.
  private func frontier() -> [Int] {
    var indices: [Int] = []
    for index in candidates.indices where indices.count < width {
      switch candidates[index].progress {
      case .fresh, .queried, .answered: indices.append(index)
      case .slow, .failed: break
      }
    }
    return indices
  }

  private mutating func add(_ contact: DHTContact, hop: Int) {
    guard contact.id != own, !candidates.contains(where: { $0.contact.id == contact.id }) else {
      return
    }
    let distance = target.distance(to: contact.id)
    if candidates.count >= candidatesMax, let last = candidates.last {
      guard distance < last.distance, last.progress == .fresh else { return }
      candidates.removeLast()
    }
    let position = candidates.firstIndex { distance < $0.distance } ?? candidates.count
    candidates.insert(Candidate(contact: contact, distance: distance, hop: hop), at: position)
  }

  /// Notes an answer; returns the hop at which the node was found.
  private mutating func settle(_ contact: DHTContact, _ progress: Progress) -> Int {
    bootstrap[contact.address] = nil
    // Whoever was expected at that address is there no more: it was started anew.
    for index in candidates.indices
    where candidates[index].contact.address == contact.address
      && candidates[index].contact.id != contact.id
    {
      candidates[index].progress = .failed
    }
    add(contact, hop: 1)
    guard let index = candidates.firstIndex(where: { $0.contact.id == contact.id }) else {
      return 1
    }
    candidates[index].progress = progress
    return candidates[index].hop
  }

  private mutating func settle(_ address: DHTAddress, _ progress: Progress) {
    if bootstrap[address] != nil { bootstrap[address] = progress }
    for index in candidates.indices where candidates[index].contact.address == address {
      if candidates[index].progress == .queried || candidates[index].progress == .slow {
        candidates[index].progress = progress
      }
    }
  }
}
