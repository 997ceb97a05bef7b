import PeerSimulation
import Testing

@Suite("P41 Peers in virtual time", .timeLimit(.minutes(2)))
struct PeerSimulationTests {
  private func expectNoFaults(
    _ seeds: Range<UInt64>, _ run: (UInt64) -> (faults: [String], digest: UInt64)
  ) {
    for seed in seeds {
      let faults = run(seed).faults
      #expect(faults.count == 0, "seed \(seed): \(faults.sorted().prefix(2))")
    }
  }

  @Test("P28 P41 workers die one at a time: no idempotent call fails")
  func deaths() {
    expectNoFaults(0..<25) { CallScenario.run(seed: $0, kind: .deaths) }
  }

  @Test("P39 P41 workers drain and restart one after the other: no call is lost")
  func rolling() {
    expectNoFaults(0..<25) { CallScenario.run(seed: $0, kind: .rolling) }
  }

  @Test("P2 P32 P33 P34 P41 calls, hedged calls and maps through everything at once")
  func storm() {
    expectNoFaults(0..<30) { CallScenario.run(seed: $0, kind: .storm) }
  }

  @Test("P27 P41 who follows a key hears who comes and goes, whatever befalls its grapes")
  func following() { expectNoFaults(0..<200, FollowScenario.run) }

  @Test("P36 P41 messages through broken connections, restarts and slow readers")
  func messages() { expectNoFaults(0..<150, PublishScenario.run) }

  @Test("P37 P41 a thousand subscribers come back within 10 s, and not all at once")
  func comebacks() { expectNoFaults(0..<4, ComebackScenario.run) }

  @Test("a seed replays exactly")
  func replay() {
    let scenarios = [CallScenario.run, FollowScenario.run, PublishScenario.run]
    for run in scenarios {
      for seed in 0..<5 as Range<UInt64> { #expect(run(seed).digest == run(seed).digest) }
      #expect(run(1).digest != run(2).digest)
    }
    // A thousand subscribers: once.
    #expect(ComebackScenario.run(seed: 1).digest == ComebackScenario.run(seed: 1).digest)
    #expect(ComebackScenario.run(seed: 1).digest != ComebackScenario.run(seed: 2).digest)
  }
}
