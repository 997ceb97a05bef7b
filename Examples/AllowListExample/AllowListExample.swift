import Grenache

/// A worker and a grape that let each certificate do what a policy allows it, and three who try.
///
///     swift run AllowListExample FOLDER GRAPE Examples/AllowListExample/policy.yaml
///
/// The folder has a folder of certificates for each of `worker`, `alice`, `bob` and `client`; the grape
/// runs with the same policy (`--access-policy`).
@main
struct AllowListExample {
  static let services = ["greet", "admin:stop"]

  static func main() async throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 4, let grape = Endpoint(arguments[2]) else {
      print("usage: AllowListExample FOLDER HOST:PORT POLICY")
      return
    }
    let folder = arguments[1]
    var configuration = PeerRPCServerConfiguration(port: 0, tls: .directory("\(folder)/worker"))
    configuration.access = try AccessControl(file: arguments[3])
    let handlers = services.map { name in
      RPCService(name) { (_: String, request: RPCRequest) in
        "done for \(request.identity?.names.first?.description ?? "nobody")"
      }
    }
    let server = PeerRPCServer(configuration, services: handlers)
    let link = try await Link(
      LinkConfiguration(grapes: [grape], tls: .directory("\(folder)/worker")))
    let (ports, started) = AsyncStream.makeStream(of: UInt16.self)
    try await withThrowingTaskGroup { group in
      group.addTask { try await server.run { started.yield($0.port) } }
      for await port in ports {
        // The worker's certificate names both services: it may announce them, and nobody else may.
        for service in services { try await link.announce(service, port: port) }
        break
      }
      for name in ["alice", "bob", "client"] {
        try await tryEverything(as: name, .directory("\(folder)/\(name)"), grape)
      }
      group.cancelAll()
    }
  }

  private static func tryEverything(
    as name: String, _ tls: TLSConfiguration, _ grape: Endpoint
  ) async throws {
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))
    let client = await PeerRPCClient(link: link)
    for service in services {
      do {
        let reply: String = try await client.request(service, "please", within: .seconds(5))
        print("\(name) calls \(service): \(reply)")
      } catch {
        print("\(name) calls \(service): \(error.code)")
      }
    }
    do {
      try await link.announce("greet", port: 1)
      print("\(name) announces greet: done")
    } catch {
      print("\(name) announces greet: \(error.code)")
    }
    await client.close()
  }
}
