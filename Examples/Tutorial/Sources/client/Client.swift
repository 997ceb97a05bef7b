import Grenache

@main
struct Client {
  static func main() async throws {
    let tls = TLSConfiguration.directory("tls/client")
    let grape = Endpoint(host: "127.0.0.1", port: 30002)
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))
    let client = await PeerRPCClient(link: link)
    do {
      for name in CommandLine.arguments.dropFirst() {
        let greeting: String = try await client.request("hello", name, within: .seconds(2))
        print(greeting)
      }
    } catch {
      print("failed, \(error.isRetryable ? "may be tried again" : "final"): \(error)")
    }
    await client.close()
    await link.close()
  }
}
