import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

/// A network of `count` nodes that know the first two.
func network(
  _ count: Int, seed: UInt64, weather: SimulatedNetwork.Weather = .init(),
  configure: (inout DHTConfiguration) -> Void = { _ in }
) -> SimulatedNetwork {
  var network = SimulatedNetwork(seed: seed)
  network.weather = weather
  for number in 0..<count {
    network.start(number, bootstrap: [0, 1].filter { $0 != number }, configure: configure)
    network.run(for: .milliseconds(50))
  }
  network.run(for: .seconds(20))
  return network
}

@Suite("BEP 5: announcing and looking up, simulated")
struct SimulationTests {
  @Test("what is announced anywhere is found everywhere, in few hops", arguments: [2, 3, 20, 150])
  func growth(_ count: Int) {
    var network = network(count, seed: UInt64(count))
    var hopsMax = 1
    while 1 << hopsMax < count { hopsMax += 1 }
    for round in 0..<5 {
      let key = Array("service \(round)".utf8)
      let announcer = round * 7 % count
      let outcome = network.outcome(of: key, port: 4_000, at: announcer)
      #expect(outcome == .stored(min(count - 1, 20)))
      for seeker in stride(from: 0, to: count, by: max(1, count / 10)) {
        let result = network.result(of: key, at: seeker)
        let peer = DHTAddress(host: SimulatedNetwork.address(announcer).host, port: 4_000)
        #expect(result?.peers == [peer], "seeker \(seeker)")
        #expect((result?.hops ?? 99) <= hopsMax)
      }
    }
  }

  @Test("keys of all lengths are raw bytes", arguments: [0, 1, 19, 20, 21, 64, 300, 2_000, 4_000])
  func keys(_ length: Int) {
    var network = network(5, seed: 5)
    let key = (0..<length).map { UInt8(truncatingIfNeeded: $0) }
    #expect(network.outcome(of: key, port: 1, at: 4) == .stored(4))
    #expect(network.result(of: key, at: 2)?.peers.count == 1)
  }

  @Test("with a tenth of all datagrams lost or doubled, lookups succeed", arguments: 0..<6)
  func loss(_ seed: Int) {
    var weather = SimulatedNetwork.Weather()
    weather.lossPercent = 10
    weather.duplicatePercent = 10
    var network = network(40, seed: UInt64(seed), weather: weather)
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
    var network = network(3, seed: 12)
    _ = network.outcome(of: [1], port: 5, at: 0)
    network.run(for: .seconds(100))
    #expect(network.result(of: [1], at: 2)?.peers.count == 1)
    _ = network.outcome(of: [1], port: 5, at: 0)
    network.run(for: .seconds(100))
    #expect(network.result(of: [1], at: 2)?.peers.count == 1)
    network.run(for: .seconds(60))
    #expect(network.result(of: [1], at: 2)?.peers.isEmpty == true)
  }

  @Test("P27 what is withdrawn is gone at once, everywhere")
  func withdrawal() {
    var network = network(30, seed: 14)
    _ = network.outcome(of: [1], port: 5, at: 3)
    _ = network.outcome(of: [1], port: 6, at: 4)
    #expect(network.result(of: [1], at: 20)?.peers.count == 2)
    let outcome = network.outcome(of: network.withdraw([1], port: 5, at: 3))
    #expect(outcome == .stored(20))
    #expect(network.result(of: [1], at: 3)?.peers.map(\.port) == [6])
    network.run(for: .seconds(2))
    for seeker in 0..<30 {
      #expect(network.result(of: [1], at: seeker)?.peers.map(\.port) == [6])
    }
  }

  @Test("a withdrawal takes a token, and takes back only what its own address announced")
  func foreignWithdrawal() {
    var network = network(5, seed: 15)
    _ = network.outcome(of: [1], port: 5, at: 3)
    _ = network.outcome(of: network.withdraw([1], port: 5, at: 2))
    network.run(for: .seconds(2))
    #expect(network.result(of: [1], at: 4)?.peers.map(\.port) == [5])
  }

  @Test("a network that was cut in two is one again")
  func partition() {
    var network = network(20, seed: 16)
    for number in 10..<20 { network.nodes[number].side = 1 }
    network.isPartitioned = true
    network.run(for: .seconds(1_200))
    #expect((network.node(15)?.contactCount ?? 99) < 19)
    network.isPartitioned = false
    network.run(for: .seconds(700))
    _ = network.outcome(of: [1], port: 5, at: 2)
    #expect(network.result(of: [1], at: 17)?.peers.count == 1)
  }

  @Test("nodes behind a NAT announce and look up, though nobody can reach them first")
  func nat() {
    var network = SimulatedNetwork(seed: 17)
    for number in [3, 7] { network.putBehindNAT(number) }
    for number in 0..<12 {
      network.start(number, bootstrap: [0, 1].filter { $0 != number })
      network.run(for: .milliseconds(50))
    }
    network.run(for: .seconds(20))
    _ = network.outcome(of: [1], port: 5, at: 3)
    #expect(network.result(of: [1], at: 7)?.peers.count == 1)
    #expect(network.result(of: [1], at: 11)?.peers.count == 1)
  }

  @Test("BEP 43: a node that is read-only looks up, and nobody knows or asks it")
  func readOnly() {
    var network = network(10, seed: 18)
    _ = network.outcome(of: [1], port: 5, at: 3)
    network.start(10, bootstrap: [0]) { $0.isReadOnly = true }
    network.run(for: .seconds(5))
    #expect(network.result(of: [1], at: 10)?.peers.count == 1)
    let address = SimulatedNetwork.address(10)
    for number in 0..<10 {
      #expect(network.node(number)?.contacts.contains { $0.address == address } == false)
    }
  }

  @Test("BEP 32: a network of IPv6 alone")
  func ipv6() {
    var network = SimulatedNetwork(seed: 19)
    func address(_ number: Int) -> DHTAddress {
      let high = 0x2001_0db8_0000_0000 + UInt64(number) << 16
      return DHTAddress(host: DHTHost(high: high, low: 1), port: 20_001)
    }
    for number in 0..<12 {
      network.start(number, at: address(number), bootstrap: number == 0 ? [] : [0])
      network.run(for: .milliseconds(100))
    }
    network.run(for: .seconds(10))
    #expect(network.outcome(of: [1], port: 5, at: 3) == .stored(11))
    let found = network.result(of: [1], at: 9)
    #expect(found?.peers == [DHTAddress(host: address(3).host, port: 5)])
  }
}

@Suite("Lookups: time-outs, early ends, caches")
struct LookupTests {
  @Test("callers of one key share a lookup")
  func coalescing() {
    var network = network(10, seed: 13)
    let before = network.datagramCount
    let ids = (0..<50).compactMap { _ in network.lookUp([7], at: 3) }
    network.run(for: .seconds(3))
    #expect(ids.allSatisfy { network.lookupResult($0) != nil })
    #expect(network.datagramCount - before < 60)
  }

  @Test("a result is given again for a moment, a miss for a shorter one")
  func cache() {
    var network = network(10, seed: 20)
    _ = network.outcome(of: [1], port: 5, at: 3)
    for (key, age) in [([1] as [UInt8], Duration.seconds(1)), ([2], .milliseconds(250))] {
      _ = network.result(of: key, at: 7)
      let before = network.datagramCount
      #expect(network.result(of: key, at: 7)?.isCached == true)
      #expect(network.datagramCount == before)
      network.run(for: age)
      #expect(network.result(of: key, at: 7)?.isCached == false)
    }
  }

  @Test("what is announced at a node is found there at once, cached miss or not")
  func cacheAndAnnouncements() {
    var network = network(10, seed: 21)
    #expect(network.result(of: [1], at: 3)?.peers.isEmpty == true)
    _ = network.announce([1], port: 5, at: 3)
    #expect(network.result(of: [1], at: 3)?.peers.count == 1)
  }

  @Test("a lookup of peers ends when three nodes have named some, a miss when all have answered")
  func earlyEnd() {
    var network = network(60, seed: 22)
    _ = network.outcome(of: [1], port: 5, at: 3)
    let hit = network.result(of: [1], at: 40)
    let miss = network.result(of: [2], at: 40)
    #expect((hit?.nodes.count ?? 99) < 12)
    #expect((miss?.nodes.count ?? 0) >= 20)
  }

  @Test("the first peers are handed on before the lookup is over")
  func streaming() throws {
    var network = network(60, seed: 23, configure: { $0.sufficientAnswers = 30 })
    _ = network.outcome(of: [1], port: 5, at: 3)
    let started = network.lookUp([1], at: 40)
    let request = try #require(started)
    let start = network.now
    network.run(for: .seconds(10)) { $0.lookupResult(request) != nil }
    let first = try #require(network.timeOfFirstPeers(request))
    #expect(first - start < (network.now - start) / 2 + .milliseconds(30))
    #expect(first < network.now)
  }

  @Test("dead nodes cost a lookup what a round trip suggests, not the time-out")
  func deadNodes() {
    var network = network(40, seed: 24)
    _ = network.outcome(of: [1], port: 5, at: 3)
    for number in stride(from: 5, to: 40, by: 2) { network.stop(number) }
    let start = network.now
    #expect(network.result(of: [1], at: 10)?.peers.count == 1)
    #expect(network.now - start < .milliseconds(700))
  }

  @Test("a lookup whose queries could not be sent says so, and is not remembered")
  func incomplete() {
    var network = network(10, seed: 25)
    _ = network.outcome(of: [1], port: 5, at: 3)
    network.start(10, bootstrap: [0, 1]) { $0.outstandingMax = 16 }
    network.run(for: .seconds(10))
    // The last of them is the one that there is something of.
    let ids = (2..<12 as Range<UInt8>).compactMap { network.lookUp([$0 % 11], at: 10) }
    network.run(for: .seconds(5))
    let results = ids.compactMap { network.lookupResult($0) }
    #expect(results.count == 10)
    #expect(results[0].isIncomplete == false)
    #expect(results[9].isIncomplete && results[9].peers.isEmpty)
    let again = network.result(of: [1], at: 10)
    #expect(again?.peers.count == 1 && again?.isIncomplete == false && again?.isCached == false)
  }
}
