import ArgumentParser
import Foundation
import GrenacheGrape

/// How long lookups take in a network of many grapes, and over how many of them they go.
struct Network: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Measure lookups in a network of grapes; fails past p50 3 ms, p99 50 ms or log2 N hops.")

  @Option(help: "Grapes.")
  var grapes = 100
  @Option(help: "Seconds for each load.")
  var seconds = 5.0
  @Option(help: "Services, each announced at one of the grapes.")
  var services = 500

  func run() async throws {
    let certificates = try BenchmarkCertificates()
    let network = try GrapeProcess(certificates.grape, count: grapes, loops: 2)
    let client = try await GrapeClient(certificates.client)
    for grape in network.apis {
      // Buckets are filled within seconds.
      while try await client.status(grape).contacts < min(grapes - 1, 40) {
        try await Task.sleep(for: .milliseconds(100))
      }
    }
    for number in 0..<services {
      try await client.announce(
        "bench:\(number)", 1 + number, to: network.apis[number * 7 % grapes])
    }
    show("in flight   lookups/s   p50 ms   p99 ms   max ms   asked DHT   hops mean   max")
    var isGood = true
    for inFlight in [1, 8] {
      let times = try await measure(inFlight, network, client)
      isGood = isGood && percentile(times, 50) <= 3_000 && percentile(times, 99) <= 50_000
    }
    let hopsMax = try await counts(network, client).hopsMax
    guard isGood, Double(hopsMax) <= log2(Double(grapes)).rounded(.up) else {
      throw ExitCode.failure
    }
  }

  private func measure(
    _ inFlight: Int, _ network: GrapeProcess, _ client: GrapeClient
  ) async throws -> [Double] {
    let (apis, services) = (network.apis, services)
    let lookup: @Sendable (Int) async throws -> Void = { number in
      // Another grape each time, and another service each time that grape has its turn: it asks the DHT.
      let service = (number / apis.count + number % apis.count) % services
      let answer = try await client.lookUp("bench:\(service)", at: apis[number % apis.count])
      guard answer.hasPrefix("[\"127.0.0.1:") else { throw WrongAnswer(description: answer) }
    }
    let first = firstNumber
    for number in 0..<apis.count { try await lookup(first + number) }  // to connect
    let before = try await counts(network, client)
    let start = ContinuousClock.now
    let times = try await client.load(inFlight: inFlight, for: .seconds(seconds)) {
      try await lookup(first + apis.count + $0)
    }
    let took = Double((ContinuousClock.now - start).wholeNanoseconds) / 1e9
    let after = try await counts(network, client)
    let asked = after.lookups - before.lookups
    show(
      String(
        format: "%9d %11.0f %8.2f %8.2f %8.2f %9.1f %% %11.2f %5d", inFlight,
        Double(times.count) / took, percentile(times, 50) / 1e3, percentile(times, 99) / 1e3,
        (times.last ?? 0) / 1e3, Double(asked * 100) / Double(times.count),
        (after.hops - before.hops) / Double(max(1, asked)), after.hopsMax))
    return times
  }

  /// Somewhere in the cycle of grapes and services that has not been looked up for a while.
  private var firstNumber: Int { Int.random(in: 0..<(1 << 40)) / grapes * grapes }

  private func counts(
    _ network: GrapeProcess, _ client: GrapeClient
  ) async throws -> (lookups: Int, hops: Double, hopsMax: Int) {
    var all: [GrapeStatus] = []
    for grape in network.apis { all.append(try await client.status(grape)) }
    return (
      all.reduce(0) { $0 + $1.lookupsFinished },
      all.reduce(0) { $0 + $1.hopsMean * Double($1.lookupsFinished) },
      all.map(\.hopsMax).max() ?? 0
    )
  }
}
