import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheIO
import GrenacheTLS
import Logging
import ServiceLifecycle

/// `grenache pub KEY --port N`
struct Pub: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Publish the lines of standard input until it ends, or until SIGTERM.",
    discussion: """
      Who subscribes gets each line as a text message. A line may have \(InputLines.lineBytesMaxDefault) \
      bytes; exit code 65 for a longer one, and for one that is no text in UTF-8.
      """)

  @Argument(help: "The key.")
  var key: String
  @Option(name: .shortAndLong, help: "The port; 0 for any.")
  var port: UInt16
  @Option(help: "What the messages are about.")
  var topic: String?
  @Option(
    help: "What happens to slow subscribers: dropOldest, dropNewest or disconnect.",
    completion: .list(SlowSubscriberPolicy.allCases.map(\.rawValue)))
  var slow = SlowSubscriberPolicy.dropOldest.rawValue
  @Option(help: "The address to listen on.", completion: .list(["127.0.0.1", "::1", "::"]))
  var bind: String?
  @Option(help: "Wait for this many subscribers before the first line.")
  var waitFor = 0
  @Flag(help: "Do not announce.")
  var noAnnounce = false
  @Flag(help: "Say where the publisher listens as JSON.")
  var json = false
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      try checkTopics([topic ?? ""])
      guard waitFor >= 0 else { throw CommandFailure(.usage, "--wait-for: 0 or more.") }
      let logger = try grapes.logging.logger("grenache")
      let link = noAnnounce ? nil : try await grapes.link(logger)
      let pub = try await PeerPub(key, try publisherConfiguration(), link: link, logger: logger)
      let lines = LinePublisher(pub: pub, topic: topic, waitFor: waitFor, json: json)
      try await runServices([lines], logger: logger)
    }
  }

  private func publisherConfiguration() throws -> PeerPubConfiguration {
    guard let policy = SlowSubscriberPolicy(rawValue: slow) else {
      throw CommandFailure(.usage, "--slow: dropOldest, dropNewest or disconnect.")
    }
    let host = bind ?? (grapes.tls.insecurePlaintext ? "127.0.0.1" : "::")
    let address = try bindAddress(host, port: port)
    var configuration: PeerPubConfiguration
    if let tls = try grapes.tls.configuration() {
      configuration = PeerPubConfiguration(port: port, tls: tls)
    } else {
      try grapes.tls.checkPlaintext(listeningOnLoopback: address.isLoopback)
      configuration = .insecurePlaintext(port: port)
      configuration.allowsInsecurePlaintextOnTheNetwork = grapes.tls.insecurePlaintextOnTheNetwork
    }
    configuration.host = host
    configuration.slowSubscribers = policy
    return configuration
  }
}

/// Refuses topics that no message can be about.
func checkTopics(_ topics: [String]) throws {
  guard topics.allSatisfy({ $0.utf8.count <= PubMessage.topicBytesMax }) else {
    throw CommandFailure(.usage, "--topic: at most \(PubMessage.topicBytesMax) bytes.")
  }
}

/// A publisher that takes its messages from standard input and ends with it.
private struct LinePublisher: Service {
  let pub: PeerPub
  let topic: String?
  let waitFor: Int
  let json: Bool

  func run() async throws {
    let (pub, json) = (pub, json)
    let isDone = try await withThrowingTaskGroup(of: End.self) { group in
      let (started, starting) = AsyncStream.makeStream(of: Void.self)
      group.addTask {
        try await pub.run { address in
          if json {
            printLine(JSONLine.object(["key": pub.key, "address": "\(address)"]))
          } else {
            printLine("publishing \(pub.key) at \(address)")
          }
          starting.yield()
        }
        return .publisher
      }
      group.addTask {
        for await _ in started { break }
        return try await publishLines()
      }
      var isDone = false
      while let end = try await group.next() {
        // What is said already is still sent.
        if end == .shutdown { continue }
        if end == .input { isDone = true }
        group.cancelAll()
      }
      return isDone
    }
    // A service that ends by itself would end the others as if it had failed.
    if isDone { throw ExitCode.success }
  }

  /// What has come to its end.
  private enum End {
    case input
    case publisher
    case shutdown
  }

  private func publishLines() async throws -> End {
    await pub.waitForSubscribers(waitFor)
    do {
      // The next line is read when this one is in the queues: whoever writes faster has to wait.
      for try await line in InputLines() {
        try await pub.publish(PubMessage(line, topic: topic))
      }
      return .input
    } catch let error as GrenacheError where error.code == .shuttingDown {
      printError("warning: the line that came last is not published: \(error)")
      return .shutdown
    } catch let error as GrenacheError where error.code == .invalidPayload {
      throw CommandFailure(.data, "\(error)")
    }
  }
}
