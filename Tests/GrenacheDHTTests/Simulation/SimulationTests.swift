import TestSupport
import Testing

@testable import GrenacheDHT

@Suite("P41 The DHT, simulated")
struct SimulationTests {
  /// A network of `count` nodes that know the first two.
  static func network(
    _ count: Int, seed: UInt64, weather: SimulatedNetwork.Weather = .init()
  ) -> SimulatedNetwork {
    var network = SimulatedNetwork(seed: seed)
    network.weather = weather
    for number in 0..<count {
      network.start(number, bootstrap: [0, 1].filter { $0 != number })
      network.run(for: .milliseconds(50))
    }
    network.run(for: .seconds(20))
    return network
  }

  @Test("what is announced anywhere is found everywhere, in few hops", arguments: [2, 3, 20, 150])
  func growth(_ count: Int) {
    var network = Self.network(count, seed: UInt64(count))
    var hopsMax = 1
    while 1 << hopsMax < count { hopsMax += 1 }
    for round in 0..<5 {
      let key = Array("service \(round)".utf8)
      let announcer = round * 7 % count
      let outcome = network.outcome(of: key, port: 4_000, at: announcer)
      #expect(outcome == .stored(min(count - 1, 20)))
      for seeker in stride(from: 0, to: count, by: max(1, count / 10)) {
        let result = network.result(of: key, at: seeker)
        let peer = DHTAddress(ip: SimulatedNetwork.address(announcer).ip, port: 4_000)
        #expect(result?.peers == [peer], "seeker \(seeker)")
        #expect((result?.hops ?? 99) <= hopsMax)
      }
    }
  }

  @Test("keys of all lengths are raw bytes", arguments: [0, 1, 19, 20, 21, 64, 300, 2_000, 4_000])
  func keys(_ length: Int) {
    var network = Self.network(5, seed: 5)
    let key = (0..<length).map { UInt8(truncatingIfNeeded: $0) }
    #expect(network.outcome(of: key, port: 1, at: 4) == .stored(4))
    #expect(network.result(of: key, at: 2)?.peers.count == 1)
  }

  @Test("with a tenth of all datagrams lost or doubled, lookups succeed", arguments: 0..<6)
  func loss(_ seed: Int) {
    var weather = SimulatedNetwork.Weather()
    weather.lossPercent = 10
    weather.duplicatePercent = 10
    var network = Self.network(40, seed: UInt64(seed), weather: weather)
    var found = 0
    for round in 0..<20 {
      let key = [UInt8(round)]
      _ = network.outcome(of: key, port: 9, at: round)
      if network.result(of: key, at: 39 - round)?.peers.count == 1 { found += 1 }
    }
    #expect(found >= 20, "seed \(seed): \(found) of 20")
  }

  @Test("a dead bootstrap node holds nobody up")
  func deadBootstrap() {
    var network = SimulatedNetwork(seed: 9)
    network.start(0, bootstrap: [7])
    network.start(1, bootstrap: [7, 0])
    network.run(for: .seconds(10))
    let before = network.now
    #expect(network.outcome(of: [1], port: 5, at: 1) == .stored(1))
    #expect(network.result(of: [1], at: 0)?.peers.count == 1)
    #expect(network.now - before < .seconds(1))
  }

  @Test("a grape alone answers from its own store")
  func alone() {
    var network = SimulatedNetwork(seed: 10)
    network.start(0, bootstrap: [])
    #expect(network.outcome(of: [1], port: 5, at: 0) == .noNodes)
    #expect(network.result(of: [1], at: 0)?.peers.map(\.port) == [5])
  }

  @Test("a node that is started anew is found again, and so is what is announced to it")
  func restart() {
    var network = SimulatedNetwork(seed: 11)
    network.start(0, bootstrap: [])
    network.start(1, bootstrap: [0])
    network.run(for: .seconds(3))
    #expect(network.outcome(of: [1], port: 5, at: 1) == .stored(1))
    network.stop(0)
    network.run(for: .seconds(1))
    network.start(0, bootstrap: [1])
    network.run(for: .seconds(5))
    #expect(network.outcome(of: [1], port: 5, at: 1) == .stored(1))
    #expect(network.result(of: [1], at: 0)?.peers.count == 1)
  }

  @Test("announcements expire, and are renewed by announcing again")
  func expiry() {
    var network = Self.network(3, seed: 12)
    _ = network.outcome(of: [1], port: 5, at: 0)
    network.run(for: .seconds(100))
    #expect(network.result(of: [1], at: 2)?.peers.count == 1)
    _ = network.outcome(of: [1], port: 5, at: 0)
    network.run(for: .seconds(100))
    #expect(network.result(of: [1], at: 2)?.peers.count == 1)
    network.run(for: .seconds(60))
    #expect(network.result(of: [1], at: 2)?.peers.isEmpty == true)
  }

  @Test("callers of one key share a lookup")
  func coalescing() {
    var network = Self.network(10, seed: 13)
    let before = network.datagramCount
    let ids = (0..<50).compactMap { _ in network.lookUp([7], at: 3) }
    network.run(for: .seconds(3))
    #expect(ids.allSatisfy { network.lookups[$0] != nil })
    #expect(network.datagramCount - before < 60)
  }
}
