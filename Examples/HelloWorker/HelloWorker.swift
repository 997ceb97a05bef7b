import Grenache
import Logging
import ServiceLifecycle
import UnixSignals

/// A worker: answers `hello`, announces it, and closes in order on SIGTERM or SIGINT.
///
///     swift run HelloWorker FOLDER-OF-CERTIFICATES GRAPE
@main
struct HelloWorker {
  struct Greeting: Codable {
    var text: String
  }

  static func main() async throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3, let grape = Endpoint(arguments[2]) else {
      print("usage: HelloWorker FOLDER HOST:PORT")
      return
    }
    let tls = TLSConfiguration.directory(arguments[1])
    let hello = RPCService("hello") { (name: String, request: RPCRequest) in
      Greeting(
        text: "Hello \(name), I know you as \(request.identity?.names.first?.description ?? "?")")
    }
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))
    let server = PeerRPCServer(
      PeerRPCServerConfiguration(port: 0, tls: tls), services: [hello], link: link)
    let services = ServiceGroup(
      services: [server], gracefulShutdownSignals: [.sigterm, .sigint],
      logger: Logger(label: "hello"))
    try await services.run()
  }
}
