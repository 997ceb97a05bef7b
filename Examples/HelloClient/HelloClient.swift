import Grenache

/// A client: finds a worker of `hello` and calls it.
///
///     swift run HelloClient FOLDER-OF-CERTIFICATES GRAPE NAME
@main
struct HelloClient {
  struct Greeting: Codable {
    var text: String
  }

  static func main() async throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 4, let grape = Endpoint(arguments[2]) else {
      print("usage: HelloClient FOLDER HOST:PORT NAME")
      return
    }
    let tls = TLSConfiguration.directory(arguments[1])
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))
    let client = await PeerRPCClient(link: link)
    let greeting: Greeting = try await client.request("hello", arguments[3], within: .seconds(2))
    print(greeting.text)
    await client.close()
  }
}
