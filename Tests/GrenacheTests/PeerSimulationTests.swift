import PeerSimulation
import Testing

@Suite("P41 Calls and messages in virtual time", .timeLimit(.minutes(2)))
struct PeerSimulationTests {
  @Test("calls through deaths, restarts, silence, overload and old lookups", arguments: 0..<4)
  func calls(_ part: UInt64) {
    for seed in (part * 50)..<(part * 50 + 50) {
      let faults = CallScenario.run(seed: seed).faults
      #expect(faults.count == 0, "seed \(seed): \(faults.sorted().prefix(2))")
    }
  }

  @Test("messages through broken connections, restarts and slow readers", arguments: 0..<4)
  func messages(_ part: UInt64) {
    for seed in (part * 100)..<(part * 100 + 100) {
      let faults = PublishScenario.run(seed: seed).faults
      #expect(faults.count == 0, "seed \(seed): \(faults.sorted().prefix(2))")
    }
  }

  @Test("a seed replays exactly")
  func replay() {
    for seed in 0..<10 as Range<UInt64> {
      #expect(CallScenario.run(seed: seed).digest == CallScenario.run(seed: seed).digest)
      #expect(PublishScenario.run(seed: seed).digest == PublishScenario.run(seed: seed).digest)
    }
    #expect(CallScenario.run(seed: 1).digest != CallScenario.run(seed: 2).digest)
  }
}
