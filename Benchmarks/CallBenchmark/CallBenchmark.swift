import ArgumentParser
import Foundation
import Grenache
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging

/// Calls over WSS with mutual TLS against a server in a process of its own, so that its processor time
/// can be told from the client's; and the memory that idle connections cost.
@main
struct CallBenchmark: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "call-benchmark",
    subcommands: [
      Measure.self, Soak.self, FleetSoak.self, Promises.self, SimulatePeers.self, Storm.self,
      StormClients.self, SlowClients.self, SlowHeaderClients.self, Server.self, Member.self,
    ],
    defaultSubcommand: Measure.self)

  static func main() async {
    DescriptorLimit.raise()
    await main(nil)
  }
}

/// The server's process.
struct Server: AsyncParsableCommand {
  @Option var certificates: String
  @Flag var insecurePlaintextBesideTLS = false

  func run() async throws {
    var configuration = PeerRPCServerConfiguration(port: 0, tls: .directory(certificates))
    configuration.host = "127.0.0.1"
    configuration.acceptsInsecurePlaintextBesideTLS = insecurePlaintextBesideTLS
    let echo = RPCService(raw: "bench") { $0.payload }
    let server = PeerRPCServer(
      configuration, services: [echo], group: try EventLoopGroup(count: 1), logger: quiet)
    // Standard input ends with the client's process, however that ends.
    FileHandle.standardInput.readabilityHandler = { handle in
      if handle.availableData.isEmpty { Foundation.exit(0) }
    }
    try await server.run { address in
      FileHandle.standardOutput.write(Data("\(address.port)\n".utf8))
    }
  }
}

let quiet = Logger(label: "benchmark") { _ in SwiftLogNoOpLogHandler() }

/// The client's process: starts the server, measures, prints a line for each load.
struct Measure: AsyncParsableCommand {
  @Option(help: "Seconds for each load.")
  var seconds = 3.0
  @Option(help: "Idle connections; 0 leaves that measurement out.")
  var idle = 2_000

  func run() async throws {
    let calls = try CallsUnderTest()
    defer { calls.end() }
    show("load                      calls/s   p50 us   p99 us   server CPU us/call")
    for inFlight in [1, 64] {
      try await measure(inFlight, calls)
    }
    if idle > 0 { try await measureIdle(calls.tls, certificates: calls.workerCertificates) }
  }

  private func measure(_ inFlight: Int, _ calls: CallsUnderTest) async throws {
    let (worker, server) = (calls.worker, calls.server)
    let client = try await calls.client()
    _ = try await Self.load(client, worker, inFlight, for: .milliseconds(500))  // to warm up
    let cpu = server.cpuSeconds
    let clock = ContinuousClock()
    let start = clock.now
    let times = try await Self.load(client, worker, inFlight, for: .seconds(seconds)).sorted()
    let took = Double((clock.now - start).wholeNanoseconds) / 1e9
    let used = (server.cpuSeconds - cpu) / Double(times.count)
    await client.close()
    show(
      String(
        format: "%2d in flight, 64 bytes %10.0f %8.1f %8.1f %20.2f", inFlight,
        Double(times.count) / took, times[times.count / 2], times[times.count * 99 / 100],
        used * 1e6))
  }

  /// Writes a line at once, whatever standard output is.
  private func show(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
  }

  /// Keeps `inFlight` calls under way; the microseconds that each took.
  private static func load(
    _ client: PeerRPCClient, _ worker: Endpoint, _ inFlight: Int, for time: Duration
  ) async throws -> [Double] {
    let payload = Array(("\"" + String(repeating: "x", count: 62) + "\"").utf8)
    let clock = ContinuousClock()
    let end = clock.now + time
    return try await withThrowingTaskGroup(of: [Double].self) { group in
      for _ in 0..<inFlight {
        group.addTask {
          var times: [Double] = []
          while true {
            let start = clock.now
            guard start < end else { return times }
            let reply = try await client.requestRaw("bench", payload, to: worker)
            guard reply.result == payload else { throw ExitCode.failure }
            times.append(Double((clock.now - start).wholeNanoseconds) / 1e3)
          }
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
  }

  private func measureIdle(_ tls: TLSConfiguration, certificates: String) async throws {
    let server = try ServerProcess.echo(certificates: certificates)
    defer { server.terminate() }
    let worker = Endpoint(host: "127.0.0.1", port: server.port)
    let context = try TLSContext(tls)
    let loop = try EventLoopGroup.shared().next()
    // The first connection pays for what all share.
    let first = try await Self.openIdle(1, worker, context, on: loop)
    let before = server.residentBytes
    let count = idle
    let held = try await Self.openIdle(count, worker, context, on: loop)
    let each = Double(server.residentBytes - before) / Double(count) / 1024
    show(
      String(
        format: "%d idle mutual-TLS WSS connections to grenache echo: %.1f KiB resident each",
        count, each))
    await loop.run { loop in _ = (first.get(on: loop), held.get(on: loop)) }
  }

  private static func openIdle(
    _ count: Int, _ worker: Endpoint, _ context: TLSContext, on loop: isolated EventLoop
  ) async throws -> LoopBound<[WebSocketConnection]> {
    let destination = Destination(worker, verification: .service("bench"))
    var held: [WebSocketConnection] = []
    for _ in 0..<count {
      held.append(
        try await WebSocketClient.connect(
          to: destination, context: context, limits: WebSocketLimits(), handler: Silent(),
          by: .now() + .seconds(10), on: loop))
    }
    return LoopBound(held, on: loop)
  }
}

/// Hears everything and says nothing.
final class Silent: WebSocketHandler {
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {}
}
