import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport
import UnixSignals

/// `grenache bench SERVICE PAYLOAD`
struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Call a service again and again and say how long the calls took.",
    discussion: """
      Without --rate each of --in-flight callers makes the next call when it has its reply (closed \
      loop). With --rate calls are made at that rate whether others have been answered or not (open \
      loop), and the time of each counts from when it was due; what is due while --in-flight calls \
      are under way waits for one of them, and is told as not made when the time is over.
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
  @Option(help: "Seconds for each call.")
  var timeout: Double = 10
  @OptionGroup var transport: TransportOptions
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      try checkOptions()
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      let client = await PeerRPCClient(link: link, configuration: try transport.configuration())
      var options = RPCCallOptions()
      options.worker = try worker(to)
      options.timeout = try duration(timeout)
      let load = BenchLoad(
        client: client, service: service, payload: try await JSONLine.payload(payload),
        options: options)
      // The first call connects, and says what is wrong if something is.
      _ = try await client.requestRaw(service, load.payload, options: options)
      let progress = TerminalProgress(isWanted: !json)
      let ticking = Task { await tick(progress) }
      let (result, took) = await untilInterrupted(.seconds(seconds)) { time in
        await load.run(callers: inFlight, rate: rate, during: time)
      }
      ticking.cancel()
      await ticking.value
      progress.clear()
      show(result, took: took)
      await client.close()
      if let failure = result.firstFailure {
        throw CommandFailure(.software, "\(result.failures) calls failed, the first: \(failure)")
      }
    }
  }

  /// Runs `body` for so long, or until the first SIGINT or SIGTERM: what has been measured until then counts.
  ///
  /// - Returns: what it has measured, and for how long calls were begun.
  private func untilInterrupted(
    _ duration: Duration, _ body: @escaping @Sendable (BenchTime) async -> BenchResult
  ) async -> (BenchResult, Duration) {
    let time = BenchTime(duration)
    let signals = await UnixSignalsSequence(trapping: [.sigint, .sigterm])
    let waiting = Task {
      for await _ in signals { return time.endNow() }
    }
    defer { waiting.cancel() }
    let result = await body(time)
    return (result, time.duration)
  }

  private func checkOptions() throws {
    guard seconds > 0, seconds <= 86_400 else {
      throw CommandFailure(.usage, "--seconds: more than 0 and at most 86400.")
    }
    guard inFlight > 0, inFlight <= 10_000 else {
      throw CommandFailure(.usage, "--in-flight: 1 to 10000.")
    }
    if let rate, !(0.001...10_000_000).contains(rate) {
      throw CommandFailure(.usage, "--rate: 0.001 to 10000000 calls a second.")
    }
  }

  private func tick(_ progress: TerminalProgress) async {
    for second in 0..<Int(seconds.rounded(.up)) {
      progress.show("\(second) of \(Int(seconds.rounded(.up))) seconds")
      guard (try? await Task.sleep(for: .seconds(1))) != nil else { return }
    }
  }

  private func show(_ result: BenchResult, took: Duration) {
    let seconds = Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18
    let times = result.times
    let perSecond = Double(times.count) / seconds
    if json {
      return printLine(
        JSONLine.object([
          "loop": rate == nil ? "closed" : "open", "seconds": seconds, "inFlight": inFlight,
          "rate": rate ?? NSNull(), "calls": times.count, "failures": result.failures,
          "notMade": result.notMade, "callsPerSecond": perSecond,
          "p50us": times.quantile(0.5), "p90us": times.quantile(0.9),
          "p99us": times.quantile(0.99), "p999us": times.quantile(0.999), "maxus": times.maximum,
          "histogram": times.steps.map { ["us": $0.upperEdge, "calls": Double($0.count)] },
        ]))
    }
    for line in times.lines(width: 50) { printLine(line) }
    printLine(
      String(
        format:
          "%d calls, %d failed, %.0f/s; p50 %.0f us, p90 %.0f us, p99 %.0f us, p99.9 %.0f us, "
          + "max %.0f us", times.count, result.failures, perSecond, times.quantile(0.5),
        times.quantile(0.9), times.quantile(0.99), times.quantile(0.999), times.maximum))
    if result.notMade > 0 {
      printLine(
        "\(result.notMade) calls were due and not made: more --in-flight, or a quicker worker"
      )
    }
  }
}
