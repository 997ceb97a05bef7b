import ArgumentParser
import Foundation
import GrenacheGrape
import Logging

/// Lookups over HTTPS with mutual TLS and kept connections, against grapes in processes of their own, so
/// that their processor time can be told from the client's.
@main
struct GrapeBenchmark: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grape-benchmark", subcommands: [Rate.self, Network.self, Grapes.self],
    defaultSubcommand: Rate.self)
}

let quiet = Logger(label: "benchmark") { _ in SwiftLogNoOpLogHandler() }

/// Writes a line at once, whatever standard output is.
func show(_ line: String) {
  FileHandle.standardOutput.write(Data("\(line)\n".utf8))
}

/// Grapes in one process; says on one line where their DHT begins and which ports their APIs have.
struct Grapes: AsyncParsableCommand {
  static let configuration = CommandConfiguration(shouldDisplay: false)
  @Option var certificates: String
  @Option var count = 1
  @Option var loops = 1
  /// The UDP port of a grape to begin with.
  @Option var bootstrap: UInt16?

  func run() async throws {
    // Standard input ends with the process that measures, however that ends.
    FileHandle.standardInput.readabilityHandler = { handle in
      if handle.availableData.isEmpty { Foundation.exit(0) }
    }
    let group = try EventLoopGroup(count: loops)
    var known = bootstrap.map { [Endpoint(host: "127.0.0.1", port: $0)] } ?? []
    var ports: [UInt16] = []
    try await withThrowingTaskGroup(of: Void.self) { tasks in
      for _ in 0..<count {
        let node = GrapeNode(configuration(known), group: group, logger: quiet)
        let (started, continuation) = AsyncStream.makeStream(of: GrapeNode.Addresses.self)
        tasks.addTask {
          defer { continuation.finish() }
          try await node.run { continuation.yield($0) }
        }
        for await addresses in started {
          ports.append(addresses.api.port)
          if known.count < 2 { known.append(Endpoint(addresses.dht)) }
          break
        }
      }
      let dht = known.first?.port ?? 0
      show(([dht] + ports).map { "\($0)" }.joined(separator: " "))
      try await tasks.waitForAll()
    }
  }

  private func configuration(_ known: [Endpoint]) -> GrapeConfiguration {
    var configuration = GrapeConfiguration(
      apiPort: 0, dhtPort: 0, bootstrap: known, tls: .directory(certificates))
    configuration.host = "127.0.0.1"
    configuration.dhtHost = "127.0.0.1"
    // One caller announces everything here.
    configuration.announcementsPerCallerMax = .max
    return configuration
  }
}
