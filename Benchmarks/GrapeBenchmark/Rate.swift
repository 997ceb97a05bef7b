import ArgumentParser
import Foundation
import GrenacheGrape

/// Lookups a second of one grape: known ones, ones that the DHT has to be asked for, and misses.
struct Rate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure lookups a second of one grape; fails below 20,000 cached, 2,000 uncached.")

  @Option(help: "Seconds for each load.")
  var seconds = 3.0
  @Option(help: "Grapes in the network, that one included.")
  var grapes = 20
  @Option(help: "Services that are announced: a result is kept for a second.")
  var services = 4_500
  @Option(help: "Which load alone: cached, uncached or missing.")
  var only: String?

  func run() async throws {
    let certificates = try BenchmarkCertificates()
    let others = try grapes > 1 ? GrapeProcess(certificates.grape, count: grapes - 1) : nil
    let measured = try GrapeProcess(certificates.grape, count: 1, bootstrap: others?.dht)
    let client = try await GrapeClient(certificates.client)
    let grape = measured.apis[0]
    while try await client.status(grape).contacts < grapes - 1 {
      try await Task.sleep(for: .milliseconds(50))
    }
    let announcer = others?.apis[0] ?? grape
    _ = try await client.load(announcing: services, to: announcer)
    // "per core": what the grape's processor time of a lookup allows.
    show("load (in flight)    lookups/s   p50 us   p99 us   CPU us/lookup   per core   asked DHT")
    let services = services
    let cached = try await measure("cached", 32, client, measured) { _ in
      try await Self.expectOne(client.lookUp("bench:0", at: grape))
    }
    var uncached = 0.0
    for inFlight in [32, 1] {
      let perCore = try await measure("uncached", inFlight, client, measured, pacing: services) {
        number in
        try await Self.expectOne(client.lookUp("bench:\(number % services)", at: grape))
      }
      uncached = max(uncached, perCore)
    }
    _ = try await measure("missing", 32, client, measured) { number in
      _ = try await client.lookUp("bench:none:\(number)", at: grape)
    }
    guard only != nil || cached >= 20_000 && uncached >= 2_000 else { throw ExitCode.failure }
  }

  /// A little more than results are known for.
  private static let round = Duration.milliseconds(1_200)

  private static func expectOne(_ answer: String) throws {
    guard answer.hasPrefix("[\"127.0.0.1:") else { throw WrongAnswer(description: answer) }
  }

  /// Prints a line; gives the lookups that one core serves in a second.
  ///
  /// - Parameter count: so many different lookups, no faster than that each is forgotten when it comes
  ///   again.
  private func measure(
    _ name: String, _ inFlight: Int, _ client: GrapeClient, _ measured: GrapeProcess,
    pacing count: Int = .max, _ lookup: @escaping @Sendable (Int) async throws -> Void
  ) async throws -> Double {
    guard only == nil || only == name else { return 0 }
    @Sendable func pace(_ number: Int, _ start: ContinuousClock.Instant) async throws {
      let due = start + Self.round * (number / count)
      if due > .now { try await Task.sleep(until: due, clock: .continuous) }
    }
    _ = try await client.load(inFlight: inFlight, for: .milliseconds(300), lookup)  // to warm up
    // What the warming up has found is forgotten by then.
    try await Task.sleep(for: Self.round)
    let asked = try await client.status(measured.apis[0]).lookupsFinished
    let cpu = measured.cpuSeconds
    let start = ContinuousClock.now
    let times = try await client.load(inFlight: inFlight, for: .seconds(seconds), lookup) {
      number in try await pace(number, start)
    }
    let took = Double((ContinuousClock.now - start).wholeNanoseconds) / 1e9
    let used = (measured.cpuSeconds - cpu) / Double(times.count)
    let share =
      Double(try await client.status(measured.apis[0]).lookupsFinished - asked)
      / Double(times.count)
    let label = "\(name) (\(inFlight))".padding(toLength: 16, withPad: " ", startingAt: 0)
    show(
      label
        + String(
          format: "%13.0f %8.1f %8.1f %15.1f %10.0f %9.1f %%", Double(times.count) / took,
          percentile(times, 50), percentile(times, 99), used * 1e6, 1 / used, share * 100))
    return 1 / used
  }
}

extension GrapeClient {
  /// Announces `bench:0` and so on, several at once.
  func load(announcing services: Int, to grape: Endpoint) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for place in 0..<16 {
        group.addTask {
          for number in stride(from: place, to: services, by: 16) {
            try await announce("bench:\(number)", 1 + number, to: grape)
          }
        }
      }
      try await group.waitForAll()
    }
  }
}
