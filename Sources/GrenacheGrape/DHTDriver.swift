internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTransport
internal import Logging

/// Who is told of what a node stores.
protocol DHTDriverObserver: AnyObject {
  /// The announcements of a key that this node stores have changed.
  func peersChanged(_ key: [UInt8], on loop: isolated EventLoop)
}

/// Gives a `DHTNode` what it lacks: sockets, the time and randomness. Confined to its loop.
final class DHTDriver: DatagramSocketDelegate, LoopTimerTarget {
  let localAddress: SocketAddress
  var node: DHTNode
  private let socket: DatagramSocket
  /// The socket of the network of IPv6, if the node is part of it.
  private let socket6: DatagramSocket?
  private let started: MonotonicTime
  private var generator = SecureRandomNumberGenerator()
  private var lookups: [DHTRequestID: LoopPromise<DHTLookupResult>] = [:]
  /// Who hears of what those lookups find while they go on.
  private var listeners: [DHTRequestID: PeersFound] = [:]
  /// Lookups that take long, of which whatever they find will do.
  private var overdue: [DHTRequestID: [UInt8]] = [:]
  private var deliveries: [DHTRequestID: LoopPromise<DHTDeliveryOutcome>] = [:]
  private var gets: [DHTRequestID: LoopPromise<DHTGetResult?>] = [:]
  /// What counts requests until the node is done with them, whether or not somebody still waits.
  private var places: [DHTRequestID: RequestsInFlight.Place] = [:]
  private lazy var timer = TargetTimer(self)
  private var isStopped = false
  /// When the addresses of this host were looked up last.
  var interfacesSeenAt: MonotonicTime?
  weak var observer: (any DHTDriverObserver)?
  /// Values that were stored, and that went, since they were last written down.
  private var storedItems: Set<[UInt8]> = []
  private var removedItems: Set<[UInt8]> = []
  /// More went than are worth remembering, for nothing could be written: all are written anew.
  private var hasLostTrack = false
  /// Keys whose announcements have changed, or were renewed, since they were last written down.
  private var changedKeys: Set<[UInt8]> = []
  private var renewedKeys: Set<[UInt8]> = []
  /// All announcements are written anew: at first, and when more have changed than are worth
  /// remembering.
  private var replacesPeers = true
  private var renewalsTakenAt = MonotonicTime.now()
  var clockJumps = ClockJumps()
  /// Whether anything is written down at all.
  private let keepsMemory: Bool
  /// What has gone into the metrics.
  private var recorded = DHTStatistics()
  private var recordedUnsent = 0

  init(
    _ configuration: DHTConfiguration, bindingTo address: SocketAddress,
    and address6: SocketAddress? = nil, keepsMemory: Bool = false,
    remembering memory: GrapeMemory? = nil
  ) throws(SystemCallError) {
    socket = try DatagramSocket(address)
    self.keepsMemory = keepsMemory
    let bound = socket.localAddress ?? address
    localAddress = bound
    if var address6 {
      if address6.port == 0 { address6.port = bound.port }
      socket6 = try DatagramSocket(address6)
    } else {
      socket6 = nil
    }
    started = .now()
    var generator = SecureRandomNumberGenerator()
    let random = NodeID.random(using: &generator)
    // A socket that is bound to a public address says what it is, as a configuration does; of a wildcard
    // and behind NAT others tell it (BEP 42).
    var configuration = configuration
    let hosts = [bound, address6].compactMap { $0.map { DHTAddress($0).host } }
    for host in hosts where host.isPublic {
      if !configuration.publicHosts.contains(where: { $0.family == host.family }) {
        configuration.publicHosts.append(host)
      }
    }
    node = DHTNode(
      ids: memory?.ids ?? DHTNodeIDs(ipv4: random, ipv6: random), configuration: configuration,
      now: .zero, cryptography: .openSSL, using: &generator)
    memory?.restore(to: &node, now: .zero)
  }

  var nodeID: NodeID { node.id }
  var statistics: DHTStatistics { node.statistics }
  var contacts: [DHTContact] { node.contacts }
  var counts: (contacts: Int, keys: Int, announcements: Int, values: Int) {
    (node.contactCount, node.keyCount, node.storedCount, node.itemCount)
  }

  /// What has been counted is added to the metrics of the process; there may be several grapes in it.
  func recordMetrics() {
    GrapeGauges.record(counts)
    GrapeGauges.add(node.statistics, since: recorded)
    recorded = node.statistics
    let unsent = socket.unsentCount &+ (socket6?.unsentCount ?? 0)
    GrapeGauges.add(unsent: unsent &- recordedUnsent)
    recordedUnsent = unsent
  }

  func start(on loop: isolated EventLoop) throws(SystemCallError) {
    try socket.start(self, on: loop)
    try socket6?.start(self, on: loop)
    lookAtInterfaces()
    node.timerFired(now: now, using: &generator)
    perform(on: loop)
  }

  func stop(on loop: isolated EventLoop) {
    isStopped = true
    loop.core.cancel(timer)
    socket.stop(on: loop)
    socket6?.stop(on: loop)
    places = [:]
  }

  // MARK: Requests

  /// Looks for the peers of `key`; `nil` when there is no answer by `deadline`.
  ///
  /// - Parameters:
  ///   - patience: after so long what has been found will do, as soon as that is anybody, and is
  ///     incomplete then; `nil` for whom it has to be the whole.
  ///   - found: hears of peers as they are found, and of all of them before this returns a result.
  ///   - usesCache: whether what was found a moment ago will do.
  func lookUp(
    _ key: [UInt8], by deadline: MonotonicTime, patience: Duration? = nil,
    found: PeersFound? = nil, usesCache: Bool = true,
    holding place: RequestsInFlight.Place? = nil, on loop: isolated EventLoop
  ) async -> DHTLookupResult? {
    let promise = LoopPromise<DHTLookupResult>()
    let id = node.lookUp(key, tellsKnown: found != nil, usesCache: usesCache, now: now)
    lookups[id] = promise
    listeners[id] = found
    places[id] = place
    perform(on: loop)
    var waiting: LookupPatience?
    if let patience, !promise.isOver {
      waiting = LookupPatience(id, key, self)
      waiting?.begin(patience, on: loop)
    }
    let outcome = await promise.wait(until: deadline, on: loop)
    waiting?.end(on: loop)
    lookups[id] = nil
    listeners[id] = nil
    overdue[id] = nil
    switch outcome {
    case .value(let result): return result
    case .timedOut: return patience == nil ? nil : node.found(of: key, now: now)
    case .cancelled: return nil
    }
  }

  /// A lookup has taken as long as its caller would wait for the whole.
  fileprivate func patienceEnded(_ id: DHTRequestID, _ key: [UInt8], on loop: isolated EventLoop) {
    overdue[id] = key
    endIfFound(id, on: loop)
  }

  /// Ends the wait for a lookup that takes long once it has found somebody. The lookup goes on.
  private func endIfFound(_ id: DHTRequestID, on loop: isolated EventLoop) {
    guard let key = overdue[id], let result = node.found(of: key, now: now) else { return }
    lookups[id]?.fulfil(result, on: loop)
  }

  /// Announces `key` at `port`; `nil` when there is no outcome by `deadline`.
  func announce(
    _ key: [UInt8], port: UInt16, ownAddress: DHTAddress?, for caller: DHTCaller?,
    by deadline: MonotonicTime, holding place: RequestsInFlight.Place? = nil,
    on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    let promise = LoopPromise<DHTDeliveryOutcome>()
    let id = node.announce(key, port: port, ownAddress: ownAddress, by: caller, now: now)
    deliveries[id] = promise
    places[id] = place
    return await outcome(of: id, promise, by: deadline, on: loop)
  }

  /// Keeps an announcement of another host than this one; other nodes could only take it for this one's.
  func keep(
    _ peer: DHTAddress, of key: [UInt8], for caller: DHTCaller?, on loop: isolated EventLoop
  ) -> DHTKeepOutcome {
    defer { perform(on: loop) }
    return node.keep(peer, for: key, by: caller, now: now)
  }

  /// Forgets such an announcement; returns whether there was one.
  func forget(_ peer: DHTAddress, for key: [UInt8], on loop: isolated EventLoop) -> Bool {
    defer { perform(on: loop) }
    return node.forget(peer, for: key)
  }

  /// Takes an announcement back; `nil` when there is no outcome by `deadline`.
  func withdraw(
    _ key: [UInt8], port: UInt16, ownAddress: DHTAddress?, by deadline: MonotonicTime,
    holding place: RequestsInFlight.Place? = nil, on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    let promise = LoopPromise<DHTDeliveryOutcome>()
    let id = node.withdraw(key, port: port, ownAddress: ownAddress, now: now)
    deliveries[id] = promise
    places[id] = place
    return await outcome(of: id, promise, by: deadline, on: loop)
  }

  /// Stores a value; `nil` when there is no outcome by `deadline`.
  func put(
    _ item: DHTItem, compareAndSwap: Int64?, for caller: DHTCaller? = nil,
    by deadline: MonotonicTime, holding place: RequestsInFlight.Place? = nil,
    on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    let promise = LoopPromise<DHTDeliveryOutcome>()
    let id = node.put(item, compareAndSwap: compareAndSwap, by: caller, now: now)
    deliveries[id] = promise
    places[id] = place
    return await outcome(of: id, promise, by: deadline, on: loop)
  }

  /// Looks for a value; `nil` when there is none by `deadline`.
  func get(
    _ target: [UInt8], salt: [UInt8], usesOwnStore: Bool, by deadline: MonotonicTime,
    holding place: RequestsInFlight.Place? = nil, on loop: isolated EventLoop
  ) async -> DHTGetResult? {
    let promise = LoopPromise<DHTGetResult?>()
    let id = node.get(target, salt: salt, usesOwnStore: usesOwnStore, now: now)
    gets[id] = promise
    places[id] = place
    perform(on: loop)
    let outcome = await promise.wait(until: deadline, on: loop)
    gets[id] = nil
    guard case .value(let result) = outcome else { return nil }
    return result
  }

  /// - Parameter promise: in its place already: at an `await`, that of the call included, others may run
  ///   and perform what this request was answered with at once.
  private func outcome(
    of id: DHTRequestID, _ promise: LoopPromise<DHTDeliveryOutcome>, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    perform(on: loop)
    let outcome = await promise.wait(until: deadline, on: loop)
    deliveries[id] = nil
    guard case .value(let result) = outcome else { return nil }
    return result
  }

  // MARK: Memory

  /// What is worth writing down now: what is new since the last time, and the contacts.
  ///
  /// - Parameter isLast: nothing is left for later.
  func takeMemory(isLast: Bool) -> GrapeMemory {
    let time = now
    if clockJumps.hasJumped() {
      // What is written down says by the wall clock when it expires.
      (hasLostTrack, replacesPeers) = (true, true)
    }
    if isLast || MonotonicTime.now() - renewalsTakenAt > GrapeStore.renewalInterval {
      changedKeys.formUnion(renewedKeys)
      renewedKeys = []
      renewalsTakenAt = .now()
    }
    if hasLostTrack { storedItems = Set(node.itemTargets) }
    let memory = GrapeMemory(
      ids: node.ids, contacts: node.contacts,
      peers: replacesPeers
        ? node.peers(at: time) : changedKeys.flatMap { node.peers(of: $0, at: time) },
      changedKeys: Array(changedKeys), replacesPeers: replacesPeers,
      items: storedItems.compactMap { node.item($0, now: time) },
      removedItems: Array(removedItems), replacesItems: hasLostTrack)
    hasLostTrack = false
    storedItems = []
    removedItems = []
    changedKeys = []
    replacesPeers = false
    return memory
  }

  /// What could not be written down is to be written the next time.
  func giveBack(_ memory: GrapeMemory) {
    if memory.replacesPeers { replacesPeers = true }
    for key in memory.changedKeys { noteChanged(key) }
    if memory.replacesItems { hasLostTrack = true }
    let stored = Set(memory.items.map(\.target))
    storedItems.formUnion(stored.subtracting(removedItems))
    for target in memory.removedItems where !storedItems.contains(target) { noteRemoved(target) }
  }

  private func noteChanged(_ key: [UInt8]) {
    guard keepsMemory, !replacesPeers else { return }
    changedKeys.insert(key)
    renewedKeys.remove(key)
    // Twice as many as there can be at a time: all of them is less.
    guard changedKeys.count > node.configuration.keysMax * 2 else { return }
    changedKeys = []
    replacesPeers = true
  }

  private func noteRenewed(_ key: [UInt8]) {
    guard keepsMemory, !replacesPeers, !changedKeys.contains(key) else { return }
    renewedKeys.insert(key)
  }

  private func noteRemoved(_ target: [UInt8]) {
    guard keepsMemory else { return }
    storedItems.remove(target)
    guard !hasLostTrack else { return }
    removedItems.insert(target)
    guard removedItems.count > node.configuration.itemsMax else { return }
    removedItems = []
    hasLostTrack = true
  }

  // MARK: From the loop

  func received(
    _ datagram: Span<UInt8>, from source: SocketAddress, on loop: isolated EventLoop
  ) {
    node.datagramReceived(datagram, from: DHTAddress(source), now: now, using: &generator)
    perform(on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    lookAtInterfaces()
    node.timerFired(now: now, using: &generator)
    perform(on: loop)
  }

  var now: Duration { MonotonicTime.now() - started }

  /// Does what the node wants done. Whoever comes after the end waits until his time is over: a timer
  /// that was armed again would keep the driver for ever.
  func perform(on loop: isolated EventLoop) {
    guard !isStopped else { return }
    while let action = node.nextAction() {
      switch action {
      case .send(let datagram, let address):
        let target = SocketAddress(address)
        (address.family == .ipv4 ? socket : socket6)?.send(datagram.span, to: target)
      case .peersFound(let id, let peers):
        listeners[id]?.add(peers)
        endIfFound(id, on: loop)
      case .lookupFinished(let id, let result):
        listeners[id]?.add(result.peers)
        lookups[id]?.fulfil(result, on: loop)
        places[id] = nil
      case .deliveryFinished(let id, let outcome):
        deliveries[id]?.fulfil(outcome, on: loop)
        places[id] = nil
      case .getFinished(let id, let result):
        gets[id]?.fulfil(result, on: loop)
        places[id] = nil
      case .peersChanged(let key):
        noteChanged(key)
        observer?.peersChanged(key, on: loop)
      case .peersRenewed(let key):
        noteRenewed(key)
      case .itemStored(let target):
        guard keepsMemory else { continue }
        storedItems.insert(target)
        removedItems.remove(target)
      case .itemRemoved(let target):
        noteRemoved(target)
      case .identifierChanged:
        break
      }
    }
    loop.core.arm(timer, at: started + node.nextDeadline)
  }
}

/// Ends the wait for the whole of a lookup, after as long as its caller would wait.
private final class LookupPatience: LoopTimerTarget {
  private let id: DHTRequestID
  private let key: [UInt8]
  private let driver: DHTDriver
  private lazy var timer = TargetTimer(self)

  init(_ id: DHTRequestID, _ key: [UInt8], _ driver: DHTDriver) {
    self.id = id
    self.key = key
    self.driver = driver
  }

  func begin(_ time: Duration, on loop: isolated EventLoop) {
    loop.core.arm(timer, after: time)
  }

  func end(on loop: isolated EventLoop) {
    loop.core.cancel(timer)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    driver.patienceEnded(id, key, on: loop)
  }
}
