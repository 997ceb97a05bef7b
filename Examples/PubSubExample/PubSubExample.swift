import Grenache

/// A publisher and a subscriber in one process: publishes three messages and prints what it hears.
///
///     swift run PubSubExample FOLDER-OF-CERTIFICATES GRAPE
///
/// The certificate names the key `news` by the URI `grenache:news`.
@main
struct PubSubExample {
  static func main() async throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 3, let grape = Endpoint(arguments[2]) else {
      print("usage: PubSubExample FOLDER HOST:PORT")
      return
    }
    let tls = TLSConfiguration.directory(arguments[1])
    let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))
    let pub = try await PeerPub("news", PeerPubConfiguration(port: 0, tls: tls), link: link)
    let sub = try await PeerSub("news", link: link)
    await withThrowingTaskGroup { group in
      group.addTask { try await pub.run() }
      group.addTask { await sub.run() }
      group.addTask {
        await pub.waitForSubscribers(1)
        for number in 1...3 { try await pub.publish(PubMessage("message \(number)")) }
      }
      var left = 3
      for await event in sub {
        if case .message(let message, _) = event {
          print(message.text)
          left -= 1
        }
        if left == 0 { break }
      }
      group.cancelAll()
    }
  }
}
