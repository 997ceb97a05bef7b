internal import GrenacheDHT
internal import TestSupport

/// What has to hold, in the storm and after it.
extension FaultScenario {
  /// Whatever a node is asked for has an outcome by then, if the node lives.
  private static let answerWithin = Duration.seconds(10)
  /// An announcement is kept for so long by the slowest and the fastest clock.
  static let surelyKept = Duration.seconds(100)
  /// So long after the last announcement nobody names a service: 120 s by the slowest clock, what it
  /// took to deliver it and to look it up, and what is remembered of that.
  private static let surelyGone = Duration.seconds(145)
  /// What was withdrawn is gone: P27, and where datagrams are lost or nodes cannot be reached for a
  /// while, after so long that everybody can be reached.
  private static let withdrawnWithin = Duration.seconds(2)
  private static let withdrawnInStormWithin = Duration.seconds(60)

  var target: [UInt8] { DHTItem.simulated("", key: 7, sequence: 0).target(.simulated) }

  func address(_ service: Service) -> DHTAddress {
    DHTAddress(host: network.nodes[service.node].address.host, port: service.port)
  }

  // MARK: After every step

  mutating func observe() {
    checkRequests()
    checkWithdrawals()
    for number in 0..<count { checkKeptItem(at: number) }
  }

  private mutating func checkRequests() {
    var open: [Request] = []
    for request in requests {
      let place = network.nodes[request.key.node]
      guard place.node != nil, place.lives == request.key.life else { continue }
      if hasEnded(request) { continue }
      if network.now - request.time < Self.answerWithin {
        open.append(request)
      } else {
        faults.append("node \(place.number): \(request.content) of \(request.time) has no outcome")
      }
    }
    requests = open
  }

  /// Whether a request has an outcome, which is looked at.
  private mutating func hasEnded(_ request: Request) -> Bool {
    switch request.content {
    case .delivery:
      return network.deliveryOutcome(request.key) != nil
    case .lookup(let key, let own):
      guard let result = network.lookupResult(request.key) else { return false }
      check(result.peers, of: key, own: own, request)
      return true
    case .get(let least):
      guard network.hasGetEnded(request.key) else { return false }
      let item = network.getResult(request.key)?.item
      if let item, !itemsPut.contains(item) {
        faults.append("node \(request.key.node) gets what nobody has put")
      }
      if item?.signature?.sequence ?? 0 < least {
        faults.append("node \(request.key.node) gets an older value than its own")
      }
      return true
    }
  }

  private mutating func check(
    _ peers: [DHTAddress], of key: [UInt8], own: [Service], _ request: Request
  ) {
    let number = request.key.node
    for peer in peers {
      let service = services.first { $0.key == key && address($0) == peer }
      guard let service, let known = announcements[service] else {
        faults.append("node \(number) finds \(peer), which nobody has announced")
        continue
      }
      if request.time - known.time > Self.surelyGone {
        faults.append("node \(number) finds \(peer) long after its last announcement")
      }
    }
    for service in own
    where announcements[service]?.withdrawnAt == nil && !peers.contains(address(service)) {
      faults.append("node \(number) does not find port \(service.port) of its own")
    }
  }

  /// What was withdrawn is in nobody's store any more whom its node can reach.
  private mutating func checkWithdrawals() {
    for service in services {
      guard let known = announcements[service], let withdrawnAt = known.withdrawnAt,
        network.node(service.node) != nil, network.nodes[service.node].lives == known.life,
        known.earlier.map({ network.now - $0 > Self.surelyGone }) ?? true
      else { continue }
      for number in 0..<count where canTell(number, of: service, since: withdrawnAt) {
        guard let node = network.node(number) else { continue }
        let time = network.nodes[number].time(at: network.clock)
        if node.peers(of: service.key, at: time).contains(where: { $0.peer == address(service) }) {
          faults.append(
            "node \(number) keeps port \(service.port) of node \(service.node), withdrawn "
              + "\(network.now - withdrawnAt) ago")
        }
      }
    }
  }

  /// Whether a node has to know by now that a service of another was withdrawn.
  private func canTell(_ number: Int, of service: Service, since withdrawnAt: Duration) -> Bool {
    let (place, other) = (network.nodes[number], network.nodes[service.node])
    guard !place.isBehindNAT, !network.isPartitioned || place.side == other.side,
      let upSince = upSince[number]
    else { return false }
    let isCalm =
      network.weather.lossPercent == 0 && upSince <= withdrawnAt && cutAt <= withdrawnAt
    return network.now - max(withdrawnAt, upSince, cutAt)
      > (isCalm ? Self.withdrawnWithin : Self.withdrawnInStormWithin)
  }

  /// The value that a node keeps is never replaced by an older one, and does not go.
  private mutating func checkKeptItem(at number: Int) {
    let place = network.nodes[number]
    guard let node = place.node else { return }
    let item = node.item(target, now: place.time(at: network.clock))?.item
    if let before = kept[number] {
      let (old, new) = (before.signature?.sequence ?? 0, item?.signature?.sequence ?? 0)
      if new < old {
        faults.append("node \(number) kept value \(old), and now \(new)")
      }
    }
    kept[number] = item
  }

  func keptSequence(at number: Int) -> Int64 {
    let place = network.nodes[number]
    let item = place.node?.item(target, now: place.time(at: network.clock))?.item
    return item?.signature?.sequence ?? 0
  }

  // MARK: Before the storm

  /// In a network that has just begun, and in good weather, everything works.
  mutating func checkCalm() {
    let service = Service(key: [0], port: 1, node: count - 1)
    announce(service)
    network.run(for: .seconds(3))
    for number in 0..<count {
      if network.result(of: [0], at: number)?.peers != [address(service)] {
        faults.append("node \(number) does not find a service in a calm network")
      }
    }
    withdraw(service)
    network.run(for: Self.withdrawnWithin)
    for number in 0..<count {
      if network.result(of: [0], at: number)?.peers != [] {
        faults.append("node \(number) finds a service that was withdrawn in a calm network")
      }
    }
    observe()
  }

  // MARK: After the storm

  mutating func checkHealed() {
    checkNothingHangs()
    let announced = services.filter { announcements[$0]?.withdrawnAt == nil }
    for service in announced {
      announce(service)
      network.run(for: .seconds(3))
    }
    let gone = Set(announced.enumerated().filter { $0.offset % 3 == 0 }.map(\.element))
    checkFound(announced, missing: [])
    for service in announced where gone.contains(service) { withdraw(service) }
    network.run(for: Self.withdrawnWithin)
    checkFound(announced.filter { !gone.contains($0) }, missing: gone)
    checkItem()
    network.run(for: Self.answerWithin)
    observe()
    checkNothingHangs()
  }

  private mutating func checkFound(_ expected: [Service], missing: Set<Service>) {
    let keys = Set(expected.map(\.key)).union(missing.map(\.key))
    for number in 0..<count {
      for key in keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
        let found = network.result(of: key, at: number)?.peers ?? []
        for service in expected where service.key == key && !found.contains(address(service)) {
          faults.append("node \(number) does not find port \(service.port) of \(service.node)")
        }
        for service in missing where service.key == key && found.contains(address(service)) {
          faults.append("node \(number) still finds port \(service.port), which was withdrawn")
        }
      }
    }
  }

  /// The newest value that anybody keeps whom all can ask is found by all, and one newer than that can
  /// be put.
  private mutating func checkItem() {
    let newest =
      (0..<count).filter { !network.nodes[$0].isBehindNAT }.map { keptSequence(at: $0) }.max() ?? 0
    for number in 0..<count {
      let found = network.item(target, at: number)?.item.signature?.sequence ?? 0
      if found < newest {
        faults.append("node \(number) finds value \(found), and \(newest) is known")
      }
    }
    let item = DHTItem.simulated("last", key: 7, sequence: sequence + 1)
    itemsPut.insert(item)
    guard case .stored = network.outcome(of: network.put(item, at: 0)) else {
      faults.append("a newer value is not stored")
      return
    }
    for number in 0..<count where network.item(target, at: number)?.item != item {
      faults.append("node \(number) does not find the newest value")
    }
  }

  /// Everything that was begun at a node that is still the same has ended.
  private mutating func checkNothingHangs() {
    for number in 0..<count {
      guard let node = network.node(number) else { continue }
      let (queries, lookups, deliveries) = node.underWay
      if lookups + deliveries > queries {
        faults.append("node \(number): \(lookups) lookups and \(deliveries) deliveries hang")
      }
    }
  }
}
