import ArgumentParser
import Foundation
import Grenache
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport

/// What a storm of new connections does to those that are established (P3).
struct Storm: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure paced calls over 16 connections, without and with a storm of new ones.")

  @Option(help: "New connections in each storm.")
  var connections = 1_000
  @Option(help: "How many storms.")
  var rounds = 3
  @Flag(help: "Fail when the median of the storms does not leave p99 below twice that of calm.")
  var strict = false

  func run() async throws {
    let calls = try CallsUnderTest()
    defer { calls.end() }
    // The same storm on a server of its own: what it costs the machine, not the server.
    let bystander = try CallsUnderTest()
    defer { bystander.end() }
    let worker = calls.worker
    var clients: [PeerRPCClient] = []
    for _ in 0..<16 { clients.append(try await calls.client()) }
    _ = try await PacedCalls.run(clients, worker) {
      try await Self.raise(100, port: worker.port, certificates: calls.clientCertificates)
    }
    print("established connections   calls   p50 us   p99 us")
    var ratios: [Double] = []
    for _ in 0..<rounds {
      let calm = try await PacedCalls.run(clients, worker) {
        try await Task.sleep(for: .seconds(2))
      }
      let start = ContinuousClock.now
      let stormy = try await PacedCalls.run(clients, worker) {
        try await Self.raise(
          connections, port: worker.port, certificates: calls.clientCertificates)
      }
      let took = Double((ContinuousClock.now - start).wholeNanoseconds) / 1e9
      let control = try await PacedCalls.run(clients, worker) {
        try await Self.raise(
          connections, port: bystander.worker.port, certificates: bystander.clientCertificates)
      }
      PacedCalls.show("calm", calm)
      PacedCalls.show("storm elsewhere", control)
      PacedCalls.show("storm", stormy)
      let p99 = PacedCalls.percentile(stormy, 99)
      ratios.append(p99 / PacedCalls.percentile(calm, 99))
      print(
        String(
          format: "%d new connections in %.2f s: p99 %.2f times that of calm, %.2f of elsewhere",
          connections, took, ratios.last ?? 0,
          p99 / PacedCalls.percentile(control, 99)))
    }
    for client in clients { await client.close() }
    let median = PacedCalls.percentile(ratios.sorted(), 50)
    print(String(format: "the median of %d: %.2f (promised: 2)", rounds, median))
    if strict, ratios.isEmpty || median >= 2 { throw ExitCode.failure }
  }

  /// Runs a process that opens the connections all at once. It is to press on the server and not on
  /// the process that measures: it runs when nobody else wants to.
  private static func raise(_ count: Int, port: UInt16, certificates: String) async throws {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/chrt")
    process.arguments = [
      "--idle", "0", URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().path,
      "storm-clients", "--port", "\(port)", "--count", "\(count)", "--certificates", certificates,
    ]
    try process.run()
    while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
    guard process.terminationStatus == 0 else { throw ExitCode.failure }
  }
}

/// The process of a storm.
struct StormClients: AsyncParsableCommand {
  static let configuration = CommandConfiguration(shouldDisplay: false)
  @Option var port: UInt16
  @Option var count: Int
  @Option var certificates: String

  func run() async throws {
    var tls = TLSConfiguration.directory(certificates)
    tls.sessions = nil
    let context = try TLSContext(tls)
    let destination = Destination(
      Endpoint(host: "127.0.0.1", port: port), verification: .service("bench"))
    let loop = try EventLoopGroup.shared().next()
    let opened = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<count {
        group.addTask { await Self.open(destination, context, on: loop) }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    guard opened == count else {
      print("only \(opened) of \(count) connections came about")
      throw ExitCode.failure
    }
  }

  private static func open(
    _ destination: Destination, _ context: TLSContext, on loop: isolated EventLoop
  ) async -> Bool {
    let connection = try? await WebSocketClient.connect(
      to: destination, context: context, limits: WebSocketLimits(), handler: Silent(),
      by: .now() + .seconds(20), on: loop)
    return connection != nil
  }
}
