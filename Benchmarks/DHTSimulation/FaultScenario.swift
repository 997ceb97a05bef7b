internal import GrenacheDHT
internal import TestSupport

/// A small network that lives through loss, reordering, partitions, clocks that differ, NAT, crashes and
/// restarts, all drawn from one seed, and what has to hold through it and afterwards (P41).
///
/// What has to hold is looked at after every step, in `FaultScenario+Checks`: the storm itself is the
/// test, not only the calm behind it.
package struct FaultScenario {
  /// A service and where it is, as everybody sees it.
  struct Service: Hashable {
    let key: [UInt8]
    let port: UInt16
    let node: Int
  }
  /// What is known of a service that was ever announced.
  struct Announcement {
    /// In which life of its node, and when, it was announced last.
    var life: Int
    var time: Duration
    /// When last in an earlier life, of which the node remembers nothing.
    var earlier: Duration?
    /// `nil` while it is announced.
    var withdrawnAt: Duration?
  }
  /// Something that a node was asked for, and when.
  struct Request {
    enum Content {
      case delivery
      /// - Parameter own: services that the node itself keeps, and has to name.
      case lookup(key: [UInt8], own: [Service])
      /// - Parameter least: the sequence number of what the node itself keeps.
      case get(least: Int64)
    }
    let key: SimulatedNetwork.RequestKey
    let time: Duration
    let content: Content
  }

  var network: SimulatedNetwork
  private var generator: SeededGenerator
  let count: Int
  /// In the order in which they were announced first.
  var services: [Service] = []
  var announcements: [Service: Announcement] = [:]
  var requests: [Request] = []
  /// The last sequence number of a value that was put.
  var sequence: Int64 = 0
  var itemsPut: Set<DHTItem> = []
  /// What each node kept of the value when it was last looked at.
  var kept: [Int: DHTItem] = [:]
  /// Since when each node is up, and when last a network was cut or mended.
  var upSince: [Int: Duration] = [:]
  var cutAt = Duration.zero
  var faults: [String] = []

  /// What has gone wrong; empty when everything held. Equal seeds give equal digests.
  package static func run(seed: UInt64) -> (faults: [String], digest: UInt64) {
    var scenario = FaultScenario(seed: seed)
    scenario.checkCalm()
    scenario.live()
    scenario.heal()
    scenario.checkHealed()
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
      if number > 2, chance(15) {
        let timeout = Int.random(in: 30...120, using: &generator)
        network.putBehindNAT(number, forgettingAfter: .seconds(timeout))
      }
      start(number, keepsMemory: false)
      network.run(for: .milliseconds(Int.random(in: 0...200, using: &generator)))
    }
    for number in 0..<count { network.nodes[number].side = number % 2 }
    network.run(for: .seconds(5))
  }

  private mutating func start(_ number: Int, keepsMemory: Bool) {
    network.start(
      number, bootstrap: [0, 1, 2].filter { $0 != number && $0 < count }, keepsMemory: keepsMemory)
    upSince[number] = network.now
    if !keepsMemory { kept[number] = nil }
  }

  private mutating func chance(_ percent: Int) -> Bool {
    Int.random(in: 0..<100, using: &generator) < percent
  }

  // MARK: Faults

  private mutating func live() {
    if chance(70) { network.weather.lossPercent = Int.random(in: 1...25, using: &generator) }
    network.weather.duplicatePercent = Int.random(in: 0...25, using: &generator)
    for _ in 0..<Int.random(in: 20...60, using: &generator) {
      act()
      network.run(for: .milliseconds(Int.random(in: 0...4_000, using: &generator)))
      observe()
    }
  }

  private mutating func act() {
    let number = Int.random(in: 0..<count, using: &generator)
    switch Int.random(in: 0..<13, using: &generator) {
    case 0:
      network.stop(number)
    case 1, 2:
      let keepsMemory = chance(50)
      if network.node(number) == nil { start(number, keepsMemory: keepsMemory) }
    case 3:
      network.isPartitioned.toggle()
      cutAt = network.now
    case 4, 5:
      announce(
        Service(
          key: [UInt8(Int.random(in: 0..<4, using: &generator))],
          port: UInt16.random(in: 1...60_000, using: &generator), node: number))
    case 6:
      // Once more, withdrawn or not.
      if let service = services.randomElement(using: &generator) { announce(service) }
    case 7, 8:
      if let service = services.randomElement(using: &generator) { withdraw(service) }
    case 9:
      guard let service = services.randomElement(using: &generator) else { return }
      // A worker that is started anew at the same port, or ended as soon as it began.
      let isAnew = chance(50)
      if isAnew { withdraw(service) } else { announce(service) }
      network.run(for: .milliseconds(Int.random(in: 0...100, using: &generator)))
      if isAnew { announce(service) } else { withdraw(service) }
    case 10:
      put(at: number)
    case 11:
      get(at: number)
    default:
      lookUp([UInt8(Int.random(in: 0..<4, using: &generator))], at: number)
    }
  }

  private mutating func heal() {
    network.weather.lossPercent = 0
    network.weather.duplicatePercent = 0
    network.isPartitioned = false
    cutAt = network.now
    for number in 0..<count where network.node(number) == nil {
      start(number, keepsMemory: chance(50))
    }
    // Longer than announcements live, and than it takes parts of a network to find together.
    for _ in 0..<100 {
      network.run(for: .seconds(7))
      observe()
    }
  }

  // MARK: Requests

  mutating func announce(_ service: Service) {
    guard let request = network.announce(service.key, port: service.port, at: service.node) else {
      return
    }
    note(request, .delivery)
    if announcements[service] == nil { services.append(service) }
    let life = network.nodes[service.node].lives
    let known = announcements[service]
    announcements[service] = Announcement(
      life: life, time: network.now, earlier: known?.life == life ? known?.earlier : known?.time)
  }

  mutating func withdraw(_ service: Service) {
    guard let request = network.withdraw(service.key, port: service.port, at: service.node) else {
      return
    }
    note(request, .delivery)
    announcements[service]?.withdrawnAt = network.now
  }

  mutating func put(at number: Int) {
    let item = DHTItem.simulated("\(sequence + 1)", key: 7, sequence: sequence + 1)
    guard let request = network.put(item, at: number) else { return }
    sequence += 1
    itemsPut.insert(item)
    note(request, .delivery)
  }

  private mutating func get(at number: Int) {
    let least = keptSequence(at: number)
    guard let request = network.get(target, at: number) else { return }
    note(request, .get(least: least))
  }

  mutating func lookUp(_ key: [UInt8], at number: Int) {
    let own = services.filter { service in
      guard service.node == number, service.key == key, let known = announcements[service] else {
        return false
      }
      return known.life == network.nodes[number].lives && known.withdrawnAt == nil
        && network.now - known.time < Self.surelyKept
    }
    guard let request = network.lookUp(key, at: number) else { return }
    note(request, .lookup(key: key, own: own))
  }

  private mutating func note(_ key: SimulatedNetwork.RequestKey, _ content: Request.Content) {
    requests.append(Request(key: key, time: network.now, content: content))
  }
}
