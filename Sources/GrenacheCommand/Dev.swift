import ArgumentParser
import GrenacheCommandSupport
import GrenacheGrape
import GrenacheTLS
import GrenacheTransport
import Logging
import ServiceLifecycle
import Synchronization

/// `grenache dev`
struct Dev: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run two grapes with fresh certificates on this machine, to try things out.")

  @Option(
    help: "The folder for the certificates, which are made anew with their authority.",
    completion: .directory)
  var out = ".grenache-dev"
  @Option(help: "Port of the first grape's API; the second has the next one.")
  var port: UInt16 = 30_001
  @Option(help: "Port of the first grape's DHT; the second has the next one.")
  var dhtPort: UInt16 = 20_001
  @OptionGroup var logging: LoggingOptions

  func run() async throws {
    try await runCommand {
      guard port < .max, port > 0, dhtPort < .max, dhtPort > 0 else {
        throw CommandFailure(.usage, "--port and --dht-port: two ports each are needed.")
      }
      let logger = try logging.logger("grenache")
      try DevelopmentCertificates.write(to: out, services: ["*"])
      let ports = [(port, dhtPort), (port + 1, dhtPort + 1)]
      let grapes = ports.map { api, dht in
        var configuration = GrapeConfiguration(
          apiPort: api, dhtPort: dht,
          bootstrap: ports.filter { $0.1 != dht }.map { Endpoint(host: "127.0.0.1", port: $0.1) },
          tls: .directory("\(out)/grape"))
        configuration.host = "127.0.0.1"
        configuration.dhtHost = "127.0.0.1"
        return GrapeNode(configuration, logger: logger)
      }
      let ready = Countdown(from: grapes.count) { printError(usage) }
      try await runServices(grapes.map { DevGrape(node: $0, ready: ready) }, logger: logger)
    }
  }

  private var usage: String {
    """
    Two grapes run at 127.0.0.1:\(port) and 127.0.0.1:\(port + 1). In other terminals:
      grenache serve rpc_test --port 1337 --reply world \
    --tls-dir \(out)/worker --grape 127.0.0.1:\(port)
      grenache call rpc_test hello --tls-dir \(out)/client --grape 127.0.0.1:\(port + 1)
    """
  }
}

/// A grape that counts when it listens.
private struct DevGrape: Service {
  let node: GrapeNode
  let ready: Countdown

  func run() async throws {
    try await node.run { _ in ready.count() }
  }
}

/// Does something when all have counted.
private final class Countdown: Sendable {
  private let left: Atomic<Int>
  private let body: @Sendable () -> Void

  init(from count: Int, _ body: @escaping @Sendable () -> Void) {
    left = Atomic(count)
    self.body = body
  }

  func count() {
    if left.wrappingSubtract(1, ordering: .relaxed).newValue == 0 { body() }
  }
}
