import Grenache
import Logging
import ServiceLifecycle

@main
struct Worker {
  static func main() async throws {
    let tls = TLSConfiguration.directory("tls/worker")
    let grape = Endpoint(host: "127.0.0.1", port: 30001)
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))

    let hello = RPCService("hello") { (name: String, request: RPCRequest) in
      "Hello \(name), I know you as \(request.identity?.displayName ?? "nobody")"
    }
    let server = PeerRPCServer(
      PeerRPCServerConfiguration(port: 1337, tls: tls), services: [hello], link: link)

    let services = ServiceGroup(
      services: [server], gracefulShutdownSignals: [.sigterm, .sigint],
      logger: Logger(label: "worker"))
    try await services.run()
  }
}
