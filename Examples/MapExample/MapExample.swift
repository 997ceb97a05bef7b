import Grenache

/// Three workers of one service, one of which is out of order, and a client that asks them all.
///
///     swift run MapExample FOLDER-OF-CERTIFICATES GRAPE
///
/// The certificate names the service `thermometer` by the URI `grenache:thermometer`.
@main
struct MapExample {
  static func main() async throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3, let grape = Endpoint(arguments[2]) else {
      print("usage: MapExample FOLDER HOST:PORT")
      return
    }
    let tls = TLSConfiguration.directory(arguments[1])
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))
    let rooms = ["attic", "cellar", "kitchen"]
    let (ports, started) = AsyncStream.makeStream(of: UInt16.self)
    try await withThrowingTaskGroup { group in
      for room in rooms {
        let server = PeerRPCServer(
          PeerRPCServerConfiguration(port: 0, tls: tls), services: [thermometer(in: room)])
        group.addTask { try await server.run { started.yield($0.port) } }
      }
      var announced: [UInt16] = []
      for await port in ports {
        try await link.announce("thermometer", port: port)
        announced.append(port)
        if announced.count == rooms.count { break }
      }
      for line in try await askAll(through: link) { print(line) }
      for port in announced { try await link.withdraw("thermometer", port: port) }
      group.cancelAll()
    }
  }

  private static func thermometer(in room: String) -> RPCService {
    RPCService("thermometer") { (unit: String, _: RPCRequest) in
      if room == "cellar" { throw RPCFault("the thermometer of the \(room) is broken") }
      return "\(room): 20 \(unit)"
    }
  }

  /// Each worker gives a result or an error of its own: one that fails spoils nothing for the others.
  private static func askAll(through link: Link) async throws -> [String] {
    let client = await PeerRPCClient(link: link)
    let results = try await client.map(
      "thermometer", "Celsius", as: String.self, within: .seconds(5))
    await client.close()
    return results.map { each in
      switch each.result {
      case .success(let reading): reading
      case .failure(let error): "\(error.code): \(error.message)"
      }
    }.sorted()
  }
}
