import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport

/// `grenache bench SERVICE PAYLOAD`
struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Call a service again and again and say how long the calls took.",
    discussion: """
      Without --rate each of --in-flight callers makes the next call when it has its reply (closed loop). \
      With --rate calls are made at that rate whether others have been answered or not (open loop), and \
      the time of each counts from when it was due.
      """)

  @Argument(help: "The service.")
  var service: String
  @Argument(help: "The payload; '-' reads it from standard input.")
  var payload = "hello"
  @Option(help: "Seconds to go on for.")
  var seconds = 5.0
  @Option(help: "Calls under way at once; with --rate, at the most.")
  var inFlight = 64
  @Option(help: "Calls a second, all together.")
  var rate: Double?
  @Option(help: "Call this worker, host:port, instead of those that a lookup finds.")
  var to: String?
  @Flag(help: "Print one JSON object and no histogram.")
  var json = false
  @OptionGroup var transport: TransportOptions
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      guard seconds > 0, seconds <= 86_400, inFlight > 0, inFlight <= 10_000, rate ?? 1 > 0 else {
        throw CommandFailure(.usage, "--seconds, --in-flight and --rate: more than nothing.")
      }
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      let client = await PeerRPCClient(link: link, configuration: try transport.configuration())
      var options = RPCCallOptions()
      options.worker = try worker(to)
      options.timeout = try grapes.duration()
      let load = BenchLoad(
        client: client, service: service, payload: JSONLine.payload(payload), options: options)
      // The first call connects, and says what is wrong if something is.
      _ = try await client.requestRaw(service, load.payload, options: options)
      let clock = ContinuousClock()
      let start = clock.now
      let result = await load.run(
        callers: inFlight, rate: rate, until: start + .seconds(seconds))
      show(result, took: clock.now - start)
      await client.close()
      if result.failures > 0 { throw ExitCode(CommandExit.software.rawValue) }
    }
  }

  private func show(_ result: BenchResult, took: Duration) {
    let seconds = Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18
    let times = result.times
    let perSecond = Double(times.count) / seconds
    if json {
      printLine(
        JSONLine.object([
          "calls": times.count, "failures": result.failures, "callsPerSecond": perSecond,
          "p50us": times.quantile(0.5), "p90us": times.quantile(0.9),
          "p99us": times.quantile(0.99), "maxus": times.maximum,
        ]))
      return
    }
    for line in times.lines(width: 50) { printLine(line) }
    printLine(
      String(
        format: "%d calls, %d failed, %.0f/s; p50 %.0f us, p90 %.0f us, p99 %.0f us, max %.0f us",
        times.count, result.failures, perSecond, times.quantile(0.5), times.quantile(0.9),
        times.quantile(0.99), times.maximum))
  }
}

/// What a load has measured.
struct BenchResult: Sendable {
  var times = LatencyHistogram()
  var failures = 0
}

/// Calls of one kind by several callers.
private struct BenchLoad: Sendable {
  let client: PeerRPCClient
  let service: String
  let payload: [UInt8]
  let options: RPCCallOptions

  func run(
    callers: Int, rate: Double?, until end: ContinuousClock.Instant
  ) async -> BenchResult {
    await withTaskGroup(of: BenchResult.self) { group in
      for number in 0..<callers {
        group.addTask {
          guard let rate else { return await closedLoop(until: end) }
          // Each caller has its share of the rate, and its own place in it.
          let interval = Duration.seconds(Double(callers) / rate)
          let offset = interval * (Double(number) / Double(callers))
          return await openLoop(every: interval, offset: offset, until: end)
        }
      }
      return await group.reduce(into: BenchResult()) { all, one in
        all.times.add(one.times)
        all.failures += one.failures
      }
    }
  }

  private func closedLoop(until end: ContinuousClock.Instant) async -> BenchResult {
    var result = BenchResult()
    while true {
      let start = ContinuousClock.now
      guard start < end else { return result }
      await call(due: start, &result)
    }
  }

  private func openLoop(
    every interval: Duration, offset: Duration, until end: ContinuousClock.Instant
  ) async -> BenchResult {
    var result = BenchResult()
    var due = ContinuousClock.now + offset
    while due < end {
      try? await Task.sleep(until: due, clock: .continuous)
      await call(due: due, &result)
      due += interval
    }
    return result
  }

  private func call(due: ContinuousClock.Instant, _ result: inout BenchResult) async {
    do throws(GrenacheError) {
      _ = try await client.requestRaw(service, payload, options: options)
    } catch {
      result.failures += 1
    }
    let (seconds, attoseconds) = (ContinuousClock.now - due).components
    result.times.add(microseconds: Double(seconds) * 1e6 + Double(attoseconds) / 1e12)
  }
}
