internal import GrenacheDHT
internal import TestSupport

/// A small network that lives through loss, reordering, partitions, clocks that differ, NAT, crashes and
/// restarts, all drawn from one seed, and what has to hold through it and afterwards (P41).
package struct FaultScenario {
  private var network: SimulatedNetwork
  private var generator: SeededGenerator
  private let count: Int
  /// Services that are announced again and again: their key, port and node.
  private var services: [(key: [UInt8], port: UInt16, node: Int)] = []
  private var withdrawn: [(key: [UInt8], port: UInt16, node: Int)] = []
  private var requests: [SimulatedNetwork.RequestKey] = []
  /// The highest sequence number that was stored for sure.
  private var sequence: Int64 = 0
  private var faults: [String] = []

  /// What has gone wrong; empty when everything held. Equal seeds give equal digests.
  package static func run(seed: UInt64) -> (faults: [String], digest: UInt64) {
    var scenario = FaultScenario(seed: seed)
    scenario.live()
    scenario.heal()
    scenario.check()
    return (scenario.faults, scenario.network.digest)
  }

  private init(seed: UInt64) {
    network = SimulatedNetwork(seed: seed)
    generator = SeededGenerator(seed: ~seed)
    count = Int.random(in: 4...12, using: &generator)
    network.weather.latency = .milliseconds(Int.random(in: 1...80, using: &generator))
    network.weather.jitter = .milliseconds(Int.random(in: 0...60, using: &generator))
    for number in 0..<count {
      if chance(30) {
        network.setClock(
          number, offset: .seconds(Int.random(in: 0...100_000, using: &generator)),
          rate: Double.random(in: 0.98...1.02, using: &generator))
      }
      if number > 2, chance(15) { network.putBehindNAT(number) }
      network.nodes.last?.side = number % 2
      start(number, keepsMemory: false)
      network.run(for: .milliseconds(Int.random(in: 0...200, using: &generator)))
    }
    for number in 0..<count { network.nodes[number].side = number % 2 }
    network.run(for: .seconds(5))
  }

  private mutating func start(_ number: Int, keepsMemory: Bool) {
    network.start(
      number, bootstrap: [0, 1, 2].filter { $0 != number && $0 < count }, keepsMemory: keepsMemory)
  }

  private mutating func chance(_ percent: Int) -> Bool {
    Int.random(in: 0..<100, using: &generator) < percent
  }

  // MARK: Faults

  private mutating func live() {
    network.weather.lossPercent = Int.random(in: 0...25, using: &generator)
    network.weather.duplicatePercent = Int.random(in: 0...25, using: &generator)
    for _ in 0..<Int.random(in: 20...60, using: &generator) {
      act()
      network.run(for: .milliseconds(Int.random(in: 0...4_000, using: &generator)))
    }
  }

  private mutating func act() {
    let number = Int.random(in: 0..<count, using: &generator)
    switch Int.random(in: 0..<10, using: &generator) {
    case 0:
      network.stop(number)
    case 1, 2:
      let keepsMemory = chance(50)
      if network.node(number) == nil { start(number, keepsMemory: keepsMemory) }
    case 3:
      network.isPartitioned.toggle()
    case 4, 5:
      let key = [UInt8(Int.random(in: 0..<4, using: &generator))]
      announce(key, at: number)
    case 6:
      withdraw()
    case 7:
      let item = DHTItem.simulated("\(sequence)", key: 7, sequence: sequence + 1)
      note(network.put(item, at: number))
      sequence += 1
    case 8:
      let target = DHTItem.simulated("", key: 7, sequence: 0).target(.simulated)
      note(network.get(target, at: number))
    default:
      let key = [UInt8(Int.random(in: 0..<4, using: &generator))]
      note(network.lookUp(key, at: number))
    }
  }

  private mutating func announce(_ key: [UInt8], at number: Int) {
    let port = UInt16.random(in: 1...60_000, using: &generator)
    guard let request = network.announce(key, port: port, at: number) else { return }
    note(request)
    services.append((key, port, number))
  }

  private mutating func withdraw() {
    guard let service = services.randomElement(using: &generator) else { return }
    guard let request = network.withdraw(service.key, port: service.port, at: service.node) else {
      return
    }
    note(request)
    services.removeAll { $0 == service }
    withdrawn.append(service)
  }

  private mutating func note(_ request: SimulatedNetwork.RequestKey?) {
    if let request { requests.append(request) }
  }

  // MARK: What has to hold

  private mutating func heal() {
    network.weather.lossPercent = 0
    network.weather.duplicatePercent = 0
    network.isPartitioned = false
    for number in 0..<count where network.node(number) == nil {
      start(number, keepsMemory: false)
    }
    // Longer than announcements live, and than it takes parts of a network to find together.
    network.run(for: .seconds(700))
  }

  private mutating func check() {
    checkNothingHangs()
    let announced = services.filter { network.node($0.node) != nil }
    for service in announced {
      _ = network.outcome(of: service.key, port: service.port, at: service.node)
    }
    for number in 0..<count {
      for key in Set(announced.map(\.key)).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
        check(key, announced.filter { $0.key == key }, at: number)
      }
    }
    checkItem()
    checkNothingHangs()
  }

  private mutating func check(
    _ key: [UInt8], _ expected: [(key: [UInt8], port: UInt16, node: Int)], at number: Int
  ) {
    let found = Set(network.result(of: key, at: number)?.peers ?? [])
    for service in expected where !found.contains(address(service)) {
      faults.append("node \(number) does not find port \(service.port) of node \(service.node)")
    }
    for service in withdrawn where service.key == key && found.contains(address(service)) {
      faults.append("node \(number) still finds port \(service.port), which was withdrawn")
    }
  }

  private func address(_ service: (key: [UInt8], port: UInt16, node: Int)) -> DHTAddress {
    DHTAddress(host: network.nodes[service.node].address.host, port: service.port)
  }

  private mutating func checkItem() {
    let item = DHTItem.simulated("last", key: 7, sequence: sequence + 1)
    guard case .stored = network.outcome(of: network.put(item, at: 0)) else {
      faults.append("a newer value is not stored")
      return
    }
    for number in 0..<count where network.item(item.target(.simulated), at: number)?.item != item {
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
