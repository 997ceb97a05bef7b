import ArgumentParser
import Foundation
import PeerSimulation

/// Clients, workers, publishers and subscribers in virtual time, one small network for each seed; a seed
/// that fails is printed and can be run again (P41).
struct SimulatePeers: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Calls and messages through faults in virtual time, by seeds.")

  @Option(help: "The first seed.")
  var first: UInt64 = 0
  @Option(help: "How many.")
  var seeds: UInt64 = 10_000

  func run() throws {
    let start = ContinuousClock.now
    var failures = 0
    var digest: UInt64 = 0
    for seed in first..<(first + seeds) {
      for (name, run) in [("calls", CallScenario.run), ("messages", PublishScenario.run)] {
        let result = run(seed)
        digest = (digest ^ result.digest) &* 0x100_0000_01b3
        guard !result.faults.isEmpty else { continue }
        failures += 1
        Promises.show(
          "seed \(seed), \(name), fails; again: simulate-peers --first \(seed) --seeds 1")
        for fault in result.faults.prefix(5) { Promises.show("  \(fault)") }
      }
    }
    let took = (ContinuousClock.now - start).components.seconds
    Promises.show(
      "\(seeds) seeds, \(failures) failures, \(took) s, digest \(String(digest, radix: 16))")
    guard failures == 0 else { throw ExitCode.failure }
  }
}
