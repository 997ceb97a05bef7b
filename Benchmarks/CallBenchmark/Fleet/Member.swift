import ArgumentParser
import Foundation
import Grenache
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import ServiceLifecycle
import UnixSignals

/// One process of a fleet under test: a grape, a worker or a publisher. It ends in order on SIGTERM, and
/// at once when the process that started it is gone.
struct Member: AsyncParsableCommand {
  static let configuration = CommandConfiguration(shouldDisplay: false)

  enum Role: String, ExpressibleByArgument { case grape, worker, publisher }

  @Option var role: Role
  @Option var certificates: String
  @Option var port: UInt16 = 0
  @Option var dhtPort: UInt16 = 0
  /// Of a grape: other grapes' DHT. Of a worker or publisher: the API of the grapes.
  @Option var grapes: String = ""
  /// Milliseconds between two messages of a publisher.
  @Option var pace = 5
  @Option var messageBytes = 4_096
  /// Milliseconds that a worker takes for a call.
  @Option var work = 0
  /// Whether a worker says which call it carries out.
  @Flag var tellsCalls = false

  static let service = "soak"
  static let key = "ticks"

  func run() async throws {
    FileHandle.standardInput.readabilityHandler = { handle in
      if handle.availableData.isEmpty { Foundation.exit(0) }
    }
    let service: any Service =
      switch role {
      case .grape: try grape()
      case .worker: try await worker()
      case .publisher: try await publisher()
      }
    let group = ServiceGroup(
      services: [service], gracefulShutdownSignals: [.sigterm], logger: quiet)
    try await group.run()
  }

  static func say(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
  }

  private var endpoints: [Endpoint] {
    grapes.split(separator: ",").compactMap { Endpoint(String($0)) }
  }

  private func link() async throws -> Link {
    try await Link(
      LinkConfiguration(grapes: endpoints, tls: .directory(certificates)), logger: quiet)
  }

  private func grape() throws -> any Service {
    var configuration = GrapeConfiguration(
      apiPort: port, dhtPort: dhtPort, bootstrap: endpoints, tls: .directory(certificates))
    configuration.host = "127.0.0.1"
    configuration.dhtHost = "127.0.0.1"
    let node = GrapeNode(configuration, logger: quiet)
    return Running {
      try await node.run { addresses in
        Self.say("ready \(addresses.api.port) \(addresses.dht.port)")
      }
    }
  }

  private func worker() async throws -> any Service {
    var configuration = PeerRPCServerConfiguration(port: port, tls: .directory(certificates))
    configuration.host = "127.0.0.1"
    let (work, tellsCalls) = (work, tellsCalls)
    let echo = RPCService(raw: Self.service) { request in
      if tellsCalls { Self.say("call \(String(decoding: request.payload, as: UTF8.self))") }
      if work > 0 { try await Task.sleep(for: .milliseconds(work)) }
      return request.payload
    }
    let bytes = RPCService(stream: "bytes") { _, stream in
      for try await _ in stream.incoming {}
      try await stream.write(Array("done".utf8))
    }
    let server = PeerRPCServer(
      configuration, services: [echo, bytes], link: grapes.isEmpty ? nil : try await link(),
      group: try EventLoopGroup(count: 1), logger: quiet)
    return Running { try await server.run { Self.say("ready \($0.port) 0") } }
  }

  /// Publishes texts that begin with the name of this run and the message's number, and says each number
  /// once the message is published.
  private func publisher() async throws -> any Service {
    var configuration = PeerPubConfiguration(port: port, tls: .directory(certificates))
    configuration.host = "127.0.0.1"
    configuration.drainTimeout = .seconds(20)
    let pub = try await PeerPub(
      Self.key, configuration, link: grapes.isEmpty ? nil : try await link(), logger: quiet)
    let run = await pub.runs.first ?? ""
    let padding = String(repeating: "x", count: messageBytes)
    let pace = pace
    return Running {
      let publishing = Task {
        var number = 0
        while !Task.isCancelled {
          number += 1
          try await pub.publish(PubMessage("\(run) \(number) \(padding)"))
          Self.say("\(run) \(number)")
          try await Task.sleep(for: .milliseconds(pace))
        }
      }
      try await withGracefulShutdownHandler {
        try await pub.run {
          Self.say("ready \($0.port) 0")
          Self.say("place \(run) \($0.port)")
        }
      } onGracefulShutdown: {
        publishing.cancel()
      }
    }
  }
}

private struct Running: Service {
  let body: @Sendable () async throws -> Void

  init(_ body: @escaping @Sendable () async throws -> Void) { self.body = body }

  func run() async throws { try await body() }
}
