import Grenache

/// A worker that answers a stream with the same in upper case, and a caller that streams to it.
///
///     swift run StreamExample FOLDER-OF-CERTIFICATES GRAPE
///
/// The certificate names the service `upper` by the URI `grenache:upper`.
@main
struct StreamExample {
  static func main() async throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3, let grape = Endpoint(arguments[2]) else {
      print("usage: StreamExample FOLDER HOST:PORT")
      return
    }
    let tls = TLSConfiguration.directory(arguments[1])
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))
    let upper = RPCService(stream: "upper") { _, stream in
      for try await part in stream.incoming {
        try await stream.write(Array(String(decoding: part, as: UTF8.self).uppercased().utf8))
      }
    }
    let server = PeerRPCServer(PeerRPCServerConfiguration(port: 0, tls: tls), services: [upper])
    let (addresses, listening) = AsyncStream.makeStream(of: Endpoint.self)
    try await withThrowingTaskGroup { group in
      group.addTask {
        try await server.run { address in
          listening.yield(Endpoint(host: "127.0.0.1", port: address.port))
        }
      }
      for await worker in addresses {
        print(try await shout("hello, streams", at: worker, through: link))
        break
      }
      group.cancelAll()
    }
  }

  private static func shout(
    _ text: String, at worker: Endpoint, through link: Link
  ) async throws -> String {
    let client = await PeerRPCClient(link: link)
    return try await client.stream("upper", to: worker) { stream in
      try await stream.write(Array(text.utf8))
      await stream.finish()
      var answer: [UInt8] = []
      for try await part in try await stream.incoming() { answer += part }
      return String(decoding: answer, as: UTF8.self)
    }
  }
}
