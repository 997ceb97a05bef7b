internal import GrenacheDHT
internal import TestSupport

/// A network of so many nodes, grown one by one, and what lookups in it cost.
package struct GrowthMeasurement: Sendable {
  /// What is looked up.
  package enum Keys: Sendable {
    /// Anywhere in the key space.
    case hashes
    /// Names that begin alike, as those of services do: they all lie at the same nodes.
    case names

    func key(_ round: Int) -> [UInt8] {
      switch self {
      case .hashes: simulatedHash([UInt8(round & 255), UInt8(round >> 8 & 255)], count: 20)
      case .names: Array("rest:util:\(round)".utf8)
      }
    }
  }
  /// How long the result of a lookup in a settled network is waited for.
  package static let waitMax = Duration.milliseconds(2_500)

  package var nodes: Int
  package var lookups: Int
  package var succeeded = 0
  /// Of each lookup that has ended.
  package var hops: [Int] = []
  /// Of each lookup: `get_peers` sent and their answers.
  package var messages: [Int] = []
  /// Of each lookup; the whole wait if it has not ended.
  package var milliseconds: [Double] = []
  package var joinMessages = 0.0
  package var contacts = 0.0

  /// Grows a network and looks services up in it that were announced elsewhere.
  package static func run(
    nodes: Int, lookups: Int, seed: UInt64, keys: Keys = .hashes
  ) -> GrowthMeasurement {
    var generator = SeededGenerator(seed: seed &+ 7)
    var network = grow(nodes, seed: seed)
    var result = GrowthMeasurement(nodes: nodes, lookups: lookups)
    result.joinMessages = Double(network.datagramCount) / Double(nodes)
    let contacts = (0..<nodes).reduce(0) { $0 + (network.node($1)?.contactCount ?? 0) }
    result.contacts = Double(contacts) / Double(nodes)
    for round in 0..<lookups {
      let key = keys.key(round)
      let announcer = Int.random(in: 0..<nodes, using: &generator)
      let seeker = Int.random(in: 0..<nodes, using: &generator)
      _ = network.outcome(of: key, port: 9, at: announcer)
      result.note(&network, key, announcer: announcer, seeker: seeker)
    }
    return result
  }

  /// The same in a network that has long been there: services are announced all at once, and looked up
  /// all at once, before the nodes have anything else to do; at most one by each node, so that what it
  /// sends is for that one.
  ///
  /// - Parameters:
  ///   - deadPercent: of 100 nodes, so many have just died; who looks up has asked others before.
  ///   - spread: how much further away some nodes are.
  package static func runSettled(
    nodes: Int, lookups: Int, seed: UInt64, keys: Keys = .hashes, deadPercent: Int = 0,
    spread: Duration = .zero
  ) -> GrowthMeasurement {
    var generator = SeededGenerator(seed: seed &+ 7)
    let lookups = min(lookups, nodes)
    var network = SimulatedNetwork.settled(nodes, seed: seed, spread: spread)
    var result = GrowthMeasurement(nodes: nodes, lookups: lookups)
    let contacts = (0..<nodes).reduce(0) { $0 + (network.node($1)?.contactCount ?? 0) }
    result.contacts = Double(contacts) / Double(nodes)
    let order = Array(0..<nodes).shuffled(using: &generator)
    // Nobody seeks what it announces itself.
    let distance = lookups < nodes ? lookups : nodes / 2
    let pairs = (0..<lookups).map { round in
      (
        key: keys.key(round), announcer: order[round], seeker: order[(round + distance) % nodes]
      )
    }
    for pair in pairs { _ = network.announce(pair.key, port: 9, at: pair.announcer) }
    network.run(for: .milliseconds(1_500))
    if deadPercent > 0 {
      for pair in pairs { _ = network.lookUp(Array("none".utf8), at: pair.seeker) }
      network.run(for: .milliseconds(1_500))
      let needed = Set(pairs.flatMap { [$0.announcer, $0.seeker] })
      for number in 0..<nodes
      where !needed.contains(number) && Int.random(in: 0..<100, using: &generator) < deadPercent {
        network.stop(number)
      }
    }
    for pair in pairs { network.countLookupMessages(at: pair.seeker) }
    let start = network.now
    let requests = pairs.map { network.lookUp($0.key, at: $0.seeker) }
    network.run(for: waitMax)
    for (request, pair) in zip(requests, pairs) {
      let end = request.flatMap { network.timeOfResult($0) }
      result.note(
        request.flatMap { network.lookupResult($0) }, took: (end ?? network.now) - start,
        messages: network.takeLookupMessages(at: pair.seeker), expecting: pair.announcer)
    }
    return result
  }

  /// Nodes that begin with two that are there already, up to ten of 100 at once.
  package static func grow(_ count: Int, seed: UInt64) -> SimulatedNetwork {
    var generator = SeededGenerator(seed: seed)
    var network = SimulatedNetwork(seed: seed)
    for number in 0..<count {
      let bootstrap =
        number == 0 ? [] : (0..<2).map { _ in Int.random(in: 0..<number, using: &generator) }
      network.start(number, bootstrap: bootstrap)
      // A tenth more within 3 s: faster than that no real network grows.
      network.run(for: .microseconds(30_000_000 / max(number, 600)))
    }
    network.run(for: .seconds(6))
    return network
  }

  private mutating func note(
    _ network: inout SimulatedNetwork, _ key: [UInt8], announcer: Int, seeker: Int
  ) {
    network.countLookupMessages(at: seeker)
    let start = network.now
    let found = network.result(of: key, at: seeker)
    let took = network.now - start
    // What is still on its way counts as well.
    network.run(for: .milliseconds(100))
    note(
      found, took: took, messages: network.takeLookupMessages(at: seeker), expecting: announcer)
  }

  private mutating func note(
    _ found: DHTLookupResult?, took: Duration, messages count: Int, expecting announcer: Int
  ) {
    milliseconds.append(Double(took.wholeNanoseconds) / 1e6)
    messages.append(count)
    guard let found else { return }
    hops.append(found.hops)
    let peer = DHTAddress(host: SimulatedNetwork.address(announcer).host, port: 9)
    if found.peers.contains(peer) { succeeded += 1 }
  }

  package var successPercent: Double { Double(succeeded) / Double(max(1, lookups)) * 100 }
  package var hopsMean: Double { Double(hops.reduce(0, +)) / Double(max(1, hops.count)) }
  package var hopsMax: Int { hops.max() ?? 0 }
  package var messagesMean: Double {
    Double(messages.reduce(0, +)) / Double(max(1, messages.count))
  }

  /// The latency that so many of 100 lookups stay below.
  package func latency(percentile: Int) -> Double {
    let sorted = milliseconds.sorted()
    guard !sorted.isEmpty else { return 0 }
    return sorted[min(sorted.count - 1, sorted.count * percentile / 100)]
  }
}
