import ArgumentParser
import DHTSimulation
import Foundation

/// The DHT in virtual time: how lookups grow with the network, and thousands of small networks with
/// faults.
@main
struct Simulate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate", subcommands: [Growth.self, Faults.self],
    defaultSubcommand: Growth.self)
}

/// Prints a line at once, into a pipe as well.
func show(_ text: String) {
  FileHandle.standardOutput.write(Data("\(text)\n".utf8))
}

/// Hops, messages, latency and success against the size of the network.
struct Growth: ParsableCommand {
  @Option(help: "Sizes of networks, separated by commas.")
  var nodes = "100,1000,10000"
  @Option(help: "In place of sizes: 100, 1,000 and so on, up to that size.")
  var upTo: Int?
  @Flag(help: "Networks that have long been there, in place of such that grow by joining.")
  var settled = false
  @Option(help: "Of 100 nodes of settled networks so many have just died.")
  var dead = 0
  @Option(help: "Some nodes of settled networks are up to so many milliseconds further away.")
  var spread = 0
  @Flag(help: "Services with names that begin alike, in place of keys drawn by chance.")
  var names = false
  @Option(help: "Lookups in each.")
  var lookups = 500
  @Option var seed: UInt64 = 1
  @Option(help: "Where the plot goes, as SVG.")
  var plot: String?

  func run() throws {
    show(
      "   nodes  log2  hops mean  max  messages   p50 ms   p99 ms  success  contacts  join msgs  took s"
    )
    var results: [GrowthMeasurement] = []
    for size in sizes {
      let start = ContinuousClock.now
      let result =
        settled
        ? GrowthMeasurement.runSettled(
          nodes: size, lookups: lookups, seed: seed, keys: names ? .names : .hashes,
          deadPercent: dead, spread: .milliseconds(spread))
        : GrowthMeasurement.run(
          nodes: size, lookups: lookups, seed: seed, keys: names ? .names : .hashes)
      let took = Double((ContinuousClock.now - start).components.seconds)
      show(
        String(
          format: "%8d %5.1f %10.2f %4d %9.1f %8.1f %8.1f %7.1f%% %9.1f %10.1f %7.0f", size,
          log2(Double(size)), result.hopsMean, result.hopsMax, result.messagesMean,
          result.latency(percentile: 50), result.latency(percentile: 99), result.successPercent,
          result.contacts, result.joinMessages, took))
      results.append(result)
    }
    if let plot, !results.isEmpty {
      try Plot(results).svg.write(toFile: plot, atomically: true, encoding: .utf8)
      show("drawn: \(plot)")
    }
    let failed = results.filter {
      $0.successPercent < 99 || Double($0.hopsMax) > log2(Double($0.nodes)).rounded(.up)
    }
    guard !results.isEmpty, failed.isEmpty else { throw ExitCode.failure }
  }

  private var sizes: [Int] {
    guard let upTo else { return nodes.split(separator: ",").compactMap { Int($0) } }
    var sizes = [upTo]
    while let least = sizes.first, least >= 1_000 { sizes.insert(least / 10, at: 0) }
    return sizes
  }

  func validate() throws {
    guard sizes.allSatisfy({ (2...(1 << 23)).contains($0) }) else {
      throw ValidationError("a network has 2 to 8,388,608 nodes")
    }
  }
}

/// Small networks with faults, one for each seed; a seed that fails is printed and can be run again.
struct Faults: ParsableCommand {
  @Option(help: "The first seed.")
  var first: UInt64 = 0
  @Option(help: "How many.")
  var seeds: UInt64 = 10_000

  func run() throws {
    let start = ContinuousClock.now
    var failures = 0
    var digest: UInt64 = 0
    for seed in first..<(first + seeds) {
      let result = FaultScenario.run(seed: seed)
      digest = (digest ^ result.digest) &* 0x100_0000_01b3
      guard !result.faults.isEmpty else { continue }
      failures += 1
      show("seed \(seed) fails; run again: simulate faults --first \(seed) --seeds 1")
      for fault in result.faults.prefix(5) { show("  \(fault)") }
    }
    let took = (ContinuousClock.now - start).components.seconds
    show("\(seeds) seeds, \(failures) failures, \(took) s, digest \(String(digest, radix: 16))")
    guard failures == 0 else { throw ExitCode.failure }
  }
}
