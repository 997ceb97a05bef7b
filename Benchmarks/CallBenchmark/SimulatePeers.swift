import ArgumentParser
import Foundation
import PeerSimulation

/// Clients, workers, grapes, followers, publishers and subscribers in virtual time, one small network for
/// each seed and scenario; a seed that fails is printed and can be run again (P41).
struct SimulatePeers: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Calls and messages through faults in virtual time, by seeds.")

  @Option(help: "The first seed.")
  var first: UInt64 = 0
  @Option(help: "How many.")
  var seeds: UInt64 = 10_000
  @Option(help: "One seed alone, as a failure has named it.")
  var seed: UInt64?
  @Option(help: "One scenario alone: \(Self.scenarios.map(\.name).joined(separator: ", ")).")
  var only: String?

  private typealias Run = @Sendable (UInt64) -> (faults: [String], digest: UInt64)
  /// The scenarios, and which seeds they take when all of them run: a thousand subscribers cost more.
  private static let scenarios: [(name: String, each: UInt64, run: Run)] = [
    ("calls", 1, { CallScenario.run(seed: $0) }), ("follow", 1, { FollowScenario.run(seed: $0) }),
    ("messages", 1, { PublishScenario.run(seed: $0) }),
    ("comebacks", 10, { ComebackScenario.run(seed: $0) }),
  ]

  func validate() throws {
    guard let only, !Self.scenarios.contains(where: { $0.name == only }) else { return }
    throw ValidationError("there is no scenario \(only)")
  }

  func run() throws {
    let range = seed.map { $0..<($0 + 1) } ?? first..<(first + seeds)
    let start = ContinuousClock.now
    var failures = 0
    var digest: UInt64 = 0
    for (name, each, run) in Self.scenarios where only == nil || only == name {
      let began = ContinuousClock.now
      let seeds = range.filter { range.count == 1 || only != nil || $0 % each == 0 }
      for seed in seeds {
        let result = run(seed)
        digest = (digest ^ result.digest) &* 0x100_0000_01b3
        guard !result.faults.isEmpty else { continue }
        failures += 1
        Promises.show("\(name) fails; again: simulate-peers --seed \(seed) --only \(name)")
        for fault in result.faults.prefix(5) { Promises.show("  \(fault)") }
      }
      Promises.show("\(name): \(seeds.count) seeds in \(Self.seconds(since: began)) s")
    }
    Promises.show(
      "\(range.count) seeds, \(failures) failures, \(Self.seconds(since: start)) s, digest "
        + String(digest, radix: 16))
    guard failures == 0 else { throw ExitCode.failure }
  }

  private static func seconds(since start: ContinuousClock.Instant) -> Int64 {
    (ContinuousClock.now - start).components.seconds
  }
}
