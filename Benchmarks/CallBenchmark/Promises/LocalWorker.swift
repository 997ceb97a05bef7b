import Grenache
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport

/// A worker in this process, on a loop of its own, where what a handler sees can be measured.
final class LocalWorker: Sendable {
  var endpoint: Endpoint { Endpoint(running.place) }
  private let running: RunningTask<SocketAddress>

  /// - Parameter grapes: where the services are announced, if anywhere.
  init(
    _ services: [RPCService], _ authority: CertificateAuthority, grapes: [Endpoint] = []
  ) async throws {
    let tls = try authority.configuration(
      for: .init(commonName: "worker", services: services.map(\.name)))
    var configuration = PeerRPCServerConfiguration(port: 0, tls: tls)
    configuration.host = "127.0.0.1"
    configuration.drainTimeout = .seconds(1)
    configuration.callsPerConnectionMax = 1_000
    var link: Link?
    if !grapes.isEmpty {
      link = try await Link(LinkConfiguration(grapes: grapes, tls: tls), logger: quiet)
    }
    let server = PeerRPCServer(
      configuration, services: services, link: link, group: try EventLoopGroup(count: 1),
      logger: quiet)
    running = try await RunningTask { started in try await server.run { started($0) } }
  }

  func stop() async { await running.stop() }
}

extension Fleet {
  /// A link on a loop of its own whose grape is never asked: calls name their worker.
  func link(to worker: Endpoint) async throws -> Link {
    try await Link(
      LinkConfiguration(grapes: [worker], tls: clientTLS), group: try EventLoopGroup(count: 1),
      logger: quiet)
  }
}
