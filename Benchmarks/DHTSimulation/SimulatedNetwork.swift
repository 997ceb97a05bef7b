package import GrenacheDHT
package import TestSupport

/// Nodes and the network between them in virtual time: every run with the same seed is the same.
package struct SimulatedNetwork {
  /// What happens to datagrams.
  package struct Weather: Hashable, Sendable {
    package var latency = Duration.milliseconds(20)
    /// Up to so much more, anew for each datagram: they overtake each other.
    package var jitter = Duration.milliseconds(10)
    /// Nodes are up to so much further away than others, each by its own distance.
    package var spread = Duration.zero
    /// Of 100 datagrams.
    package var lossPercent = 0
    package var duplicatePercent = 0

    package init() {}
  }
  private enum Event {
    case datagram([UInt8], from: DHTAddress, to: DHTAddress)
    case wake(Int)
  }

  package var weather = Weather()
  /// Whether nodes that start have identifiers that fit their addresses (BEP 42); by default none knows
  /// its address, as none does that is bound to a wildcard or behind a NAT.
  package var nodesKnowTheirAddresses = false
  /// Whether datagrams stay on the side of their sender.
  package var isPartitioned = false
  package private(set) var nodes: [SimulatedNode] = []
  package private(set) var datagramCount = 0
  package private(set) var byteCount = 0
  /// Depends on everything that has been sent: equal for equal runs.
  package private(set) var digest: UInt64 = 0

  private(set) var clock: Int64 = 0
  private var queue = EventQueue<Event>()
  private var indexByAddress: [DHTAddress: Int] = [:]
  private var lookups: [RequestKey: DHTLookupResult] = [:]
  private var lookupEnds: [RequestKey: Duration] = [:]
  private var deliveries: [RequestKey: DHTDeliveryOutcome] = [:]
  private var gets: [RequestKey: DHTGetResult?] = [:]
  /// When the first peers of a lookup were handed on.
  private var firstPeers: [RequestKey: Duration] = [:]
  package var generator: SeededGenerator

  /// A request of a node, in one of its lives.
  package struct RequestKey: Hashable, Sendable {
    let node: Int
    let life: Int
    let id: DHTRequestID

    init(_ place: SimulatedNode, _ id: DHTRequestID) {
      node = place.number
      life = place.lives
      self.id = id
    }
  }

  package init(seed: UInt64) {
    generator = SeededGenerator(seed: seed)
  }

  package var now: Duration { .nanoseconds(clock) }

  /// The address of the node of a number: public, each in a network of its own.
  package static func address(_ number: Int) -> DHTAddress {
    DHTAddress(ip: 0x2000_0001 + UInt32(number) << 8, port: 20_001)
  }

  // MARK: Nodes

  /// Adds, or starts anew, a node.
  package mutating func start(
    _ number: Int, at address: DHTAddress? = nil, bootstrap: [Int], keepsMemory: Bool = false,
    settledAs settled: (id: NodeID, contacts: [DHTContact])? = nil,
    configure: (inout DHTConfiguration) -> Void = { _ in }
  ) {
    let place = place(of: number, address)
    var configuration = DHTConfiguration()
    for other in bootstrap { configuration.bootstrap.append(self.place(of: other, nil).address) }
    configuration.families = [place.address.family]
    configure(&configuration)
    let memory = keepsMemory ? place.memory : nil
    let id =
      settled?.id
      ?? (nodesKnowTheirAddresses
        ? .bound(to: place.address.host, using: &generator) : .random(using: &generator))
    var node = DHTNode(
      ids: memory?.ids ?? DHTNodeIDs(ipv4: id, ipv6: id), configuration: configuration,
      now: place.time(at: clock), cryptography: .simulated, using: &generator)
    if let memory {
      let time = place.time(at: clock)
      let downtime = Duration.nanoseconds(clock - memory.time)
      for var peer in memory.peers {
        peer.remaining -= downtime
        node.restore(peer, now: time)
      }
      for var item in memory.items {
        item.remaining -= downtime
        node.restore(item, now: time)
      }
      node.restore(memory.contacts, now: time)
    }
    if let settled {
      node.settle(
        among: settled.contacts, roundTrip: { self.roundTrip(place.address, $0.address) },
        now: place.time(at: clock))
    }
    place.node = node
    place.lives += 1
    place.wakesAt = nil
    with(number) { node, now, generator in node.timerFired(now: now, using: &generator) }
  }

  private mutating func place(of number: Int, _ address: DHTAddress?) -> SimulatedNode {
    while nodes.count <= number {
      let next = nodes.count
      let own = next == number ? address ?? Self.address(next) : Self.address(next)
      nodes.append(SimulatedNode(number: next, address: own))
      indexByAddress[own] = next
    }
    return nodes[number]
  }

  /// Ends a node as a crash would. What a grape writes down is remembered.
  package mutating func stop(_ number: Int) {
    let place = nodes[number]
    if let node = place.node {
      let time = place.time(at: clock)
      place.memory = .init(
        time: clock, ids: node.ids, contacts: node.contacts,
        peers: node.peers(at: time).sorted { $0.precedes($1) },
        items: node.itemTargets.sorted { $0.lexicographicallyPrecedes($1) }.compactMap {
          node.item($0, now: time)
        })
    }
    place.node = nil
    place.sentAt = [:]
  }

  /// Puts somebody who does not keep to the rules at an address.
  package mutating func place(_ impostor: any Impostor, number: Int, at address: DHTAddress) {
    place(of: number, address).impostor = impostor
  }

  /// Sets a node's clock apart from the network's; before it starts.
  package mutating func setClock(_ number: Int, offset: Duration, rate: Double) {
    let place = place(of: number, nil)
    place.clockOffset = offset
    place.clockRate = rate
  }

  /// Puts a node behind a NAT, which forgets whom the node has sent nothing for so long; before it starts.
  package mutating func putBehindNAT(_ number: Int, forgettingAfter time: Duration = .seconds(60)) {
    place(of: number, nil).natTimeout = time
  }

  package func node(_ number: Int) -> DHTNode? {
    number < nodes.count ? nodes[number].node : nil
  }

  /// Counts from now on what a node sends and receives for its lookups of peers.
  package func countLookupMessages(at number: Int) {
    nodes[number].lookupMessages = 0
  }

  /// Ends that, and gives their number.
  package func takeLookupMessages(at number: Int) -> Int {
    nodes[number].lookupMessages.take() ?? 0
  }

  // MARK: Requests

  package mutating func lookUp(_ key: [UInt8], at number: Int) -> RequestKey? {
    request(number) { node, now in node.lookUp(key, now: now) }
  }

  package mutating func announce(_ key: [UInt8], port: UInt16, at number: Int) -> RequestKey? {
    let own = DHTAddress(host: nodes[number].address.host, port: port)
    return request(number) { node, now in
      node.announce(key, port: port, ownAddress: own, now: now)
    }
  }

  package mutating func withdraw(_ key: [UInt8], port: UInt16, at number: Int) -> RequestKey? {
    let own = DHTAddress(host: nodes[number].address.host, port: port)
    return request(number) { node, now in
      node.withdraw(key, port: port, ownAddress: own, now: now)
    }
  }

  package mutating func put(
    _ item: DHTItem, compareAndSwap: Int64? = nil, at number: Int
  ) -> RequestKey? {
    request(number) { node, now in
      node.put(item, compareAndSwap: compareAndSwap, now: now)
    }
  }

  package mutating func get(
    _ target: [UInt8], salt: [UInt8] = [], usesOwnStore: Bool = true, at number: Int
  ) -> RequestKey? {
    request(number) { node, now in
      node.get(target, salt: salt, usesOwnStore: usesOwnStore, now: now)
    }
  }

  private mutating func request(
    _ number: Int, _ body: (inout DHTNode, Duration) -> DHTRequestID
  ) -> RequestKey? {
    var id: DHTRequestID?
    with(number) { node, now, _ in id = body(&node, now) }
    return id.map { RequestKey(nodes[number], $0) }
  }

  package func lookupResult(_ key: RequestKey) -> DHTLookupResult? { lookups[key] }
  package func timeOfResult(_ key: RequestKey) -> Duration? { lookupEnds[key] }
  package func hasGetEnded(_ key: RequestKey) -> Bool { gets[key] != nil }
  package func getResult(_ key: RequestKey) -> DHTGetResult? { gets[key] ?? nil }
  package func deliveryOutcome(_ key: RequestKey) -> DHTDeliveryOutcome? { deliveries[key] }
  package func timeOfFirstPeers(_ key: RequestKey) -> Duration? { firstPeers[key] }

  /// Looks a key up and waits, in virtual time, for the result.
  package mutating func result(of key: [UInt8], at number: Int) -> DHTLookupResult? {
    guard let request = lookUp(key, at: number) else { return nil }
    run(for: .seconds(10)) { $0.lookups[request] != nil }
    return lookups[request]
  }

  /// Announces a key and waits, in virtual time, for the outcome.
  package mutating func outcome(
    of key: [UInt8], port: UInt16, at number: Int
  ) -> DHTDeliveryOutcome? {
    guard let request = announce(key, port: port, at: number) else { return nil }
    return outcome(of: request)
  }

  /// Waits, in virtual time, for something that is to be stored.
  package mutating func outcome(of request: RequestKey?) -> DHTDeliveryOutcome? {
    guard let request else { return nil }
    run(for: .seconds(10)) { $0.deliveries[request] != nil }
    return deliveries[request]
  }

  /// Gets an item, waiting in virtual time.
  package mutating func item(
    _ target: [UInt8], salt: [UInt8] = [], at number: Int
  ) -> DHTGetResult? {
    guard let request = get(target, salt: salt, at: number) else { return nil }
    run(for: .seconds(10)) { $0.gets[request] != nil }
    return gets[request] ?? nil
  }

  // MARK: Time

  package mutating func run(for time: Duration) {
    run(for: time) { _ in false }
  }

  /// Runs until `isDone`, or for so long.
  package mutating func run(for time: Duration, until isDone: (SimulatedNetwork) -> Bool) {
    let end = clock + time.wholeNanoseconds
    while !isDone(self) {
      guard let next = queue.nextTime, next <= end else {
        clock = end
        return
      }
      clock = max(clock, next)
      step()
    }
  }

  private mutating func step() {
    switch queue.takeNext() {
    case .datagram(let bytes, let from, let to):
      deliver(bytes, from: from, to: to)
    case .wake(let number):
      let place = nodes[number]
      guard place.wakesAt == clock else { return }
      place.wakesAt = nil
      with(number) { node, now, generator in
        if node.nextDeadline <= now { node.timerFired(now: now, using: &generator) }
      }
    case nil:
      return
    }
  }

  // MARK: Datagrams

  /// Sends a datagram from wherever.
  package mutating func inject(_ bytes: [UInt8], from: DHTAddress, to number: Int) {
    with(number) { node, now, generator in
      node.datagramReceived(bytes.span, from: from, now: now, using: &generator)
    }
  }

  private mutating func deliver(_ bytes: [UInt8], from: DHTAddress, to: DHTAddress) {
    guard let index = indexByAddress[to] else { return }
    let place = nodes[index]
    if let sender = indexByAddress[from], isPartitioned, nodes[sender].side != place.side { return }
    guard place.admits(from, at: clock) else { return }
    if place.lookupMessages != nil, bytes.isAnswerWithToken { place.lookupMessages? += 1 }
    place.datagramsReceived += 1
    place.bytesReceived += bytes.count
    if let impostor = place.impostor {
      for (answer, target) in impostor.received(bytes, from: from) {
        send(answer, from: to, to: target)
      }
      return
    }
    inject(bytes, from: from, to: index)
  }

  private mutating func with(
    _ number: Int, _ body: (inout DHTNode, Duration, inout SeededGenerator) -> Void
  ) {
    let place = nodes[number]
    let time = place.time(at: clock)
    var deadline: Duration?
    place.change { node in
      body(&node, time, &generator)
      while let action = node.nextAction() { perform(action, place) }
      deadline = node.nextDeadline
    }
    guard let deadline else { return }
    let wake = max(place.networkTime(of: deadline), clock)
    if let planned = place.wakesAt, planned <= wake { return }
    place.wakesAt = wake
    queue.schedule(.wake(number), at: wake)
  }

  private mutating func perform(_ action: DHTAction, _ place: SimulatedNode) {
    switch action {
    case .send(let bytes, let to):
      if place.isBehindNAT { place.sentAt[to] = clock }
      if place.lookupMessages != nil, bytes.isPeerQuery { place.lookupMessages? += 1 }
      send(bytes, from: place.address, to: to)
    case .peersFound(let id, _):
      let key = RequestKey(place, id)
      if firstPeers[key] == nil { firstPeers[key] = now }
    case .lookupFinished(let id, let result):
      lookups[RequestKey(place, id)] = result
      lookupEnds[RequestKey(place, id)] = now
    case .deliveryFinished(let id, let outcome):
      deliveries[RequestKey(place, id)] = outcome
    case .getFinished(let id, let result):
      gets[RequestKey(place, id)] = .some(result)
    case .peersChanged, .peersRenewed, .itemStored, .itemRemoved, .identifierChanged:
      break
    }
  }

  package mutating func send(_ bytes: [UInt8], from: DHTAddress, to: DHTAddress) {
    datagramCount += 1
    byteCount += bytes.count
    digest = (digest ^ UInt64(bytes.count) ^ to.host.low ^ UInt64(clock)) &* 0x100_0000_01b3
    let copies = chance(weather.duplicatePercent) ? 2 : 1
    for _ in 0..<copies where !chance(weather.lossPercent) {
      let jitter = weather.jitter.wholeNanoseconds
      let delay = weather.latency.wholeNanoseconds
      let distance = distance(of: from) + distance(of: to)
      let extra = jitter > 0 ? Int64.random(in: 0...jitter, using: &generator) : 0
      queue.schedule(.datagram(bytes, from: from, to: to), at: clock + delay + extra + distance)
    }
  }

  /// How long an answer takes, without jitter.
  private func roundTrip(_ one: DHTAddress, _ other: DHTAddress) -> Duration {
    (weather.latency + .nanoseconds(distance(of: one) + distance(of: other))) * 2
  }

  private func distance(of address: DHTAddress) -> Int64 {
    guard weather.spread > .zero else { return 0 }
    let most = UInt64(weather.spread.wholeNanoseconds)
    return Int64((address.host.low &* 0x9e37_79b9_7f4a_7c15) >> 20 % (most + 1))
  }

  private mutating func chance(_ percent: Int) -> Bool {
    percent > 0 && Int.random(in: 0..<100, using: &generator) < percent
  }
}

extension DHTNode.KeptPeer {
  /// An order that does not depend on hashing.
  fileprivate func precedes(_ other: Self) -> Bool {
    if key == other.key { return peer < other.peer }
    return key.lexicographicallyPrecedes(other.key)
  }
}
