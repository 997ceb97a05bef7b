import DHTSimulation
import GrenacheDHT
import TestSupport
import Testing

@Suite("P41 The DHT, simulated: thousands of seeds in `make simulate`, some of them here")
struct FaultTests {
  @Test(
    "P41 loss, reordering, partition, clocks apart, NAT, crash and restart: what holds afterwards",
    arguments: 0..<12 as Range<UInt64>)
  func faults(_ seed: UInt64) {
    let result = FaultScenario.run(seed: seed)
    #expect(result.faults.isEmpty, "simulate faults --first \(seed) --seeds 1")
  }

  @Test("P41 a seed replays: the same datagrams at the same times")
  func replay() {
    #expect(FaultScenario.run(seed: 5).digest == FaultScenario.run(seed: 5).digest)
    #expect(FaultScenario.run(seed: 5).digest != FaultScenario.run(seed: 6).digest)
  }

  @Test("P41 a network of 10,000 nodes: every lookup succeeds, in at most log₂ N hops")
  func large() {
    let result = GrowthMeasurement.runSettled(nodes: 10_000, lookups: 50, seed: 4)
    #expect(result.successPercent == 100 && result.hops.count == 50)
    #expect(result.hopsMax <= 14 && result.hopsMean > 1.5)
    #expect(result.contacts > 150)
  }

  @Test("a network that is settled has the tables of one that has grown")
  func settled() throws {
    let network = SimulatedNetwork.settled(300, seed: 5)
    let ids = (0..<300).compactMap { network.node($0)?.id }
    for number in 0..<300 {
      let node = try #require(network.node(number))
      let all = Dictionary(grouping: ids.filter { $0 != node.id }) {
        node.id.distance(to: $0).leadingZeroBitCount
      }
      let known = Dictionary(grouping: node.contacts) {
        node.id.distance(to: $0.id).leadingZeroBitCount
      }
      #expect(known.mapValues(\.count) == all.mapValues { min(20, $0.count) })
    }
  }

  @Test("services whose names begin alike lie at the same nodes, and are found nevertheless")
  func names() {
    let result = GrowthMeasurement.runSettled(nodes: 400, lookups: 150, seed: 6, keys: .names)
    #expect(result.successPercent == 100 && result.hopsMax <= 9)
  }

  @Test("distances of seconds are simulated as such, and lookups that fail count as well")
  func farAway() {
    // Most answers come too late.
    let far = GrowthMeasurement.runSettled(nodes: 60, lookups: 20, seed: 7, spread: .seconds(3))
    #expect(far.milliseconds.count == 20 && far.messages.count == 20)
    #expect(far.successPercent < 100 && far.latency(percentile: 50) >= 400)
    let near = GrowthMeasurement.runSettled(nodes: 60, lookups: 20, seed: 7)
    #expect(near.latency(percentile: 99) < 200 && near.successPercent == 100)
    #expect((10...60).contains(near.messagesMean))
  }

  @Test("P41 a network of 200 nodes: every lookup succeeds, in at most log₂ N hops")
  func growth() {
    let result = GrowthMeasurement.run(nodes: 200, lookups: 40, seed: 3)
    #expect(result.successPercent == 100)
    #expect(result.hopsMax <= 8)
    #expect(result.contacts > 40)
  }
}
