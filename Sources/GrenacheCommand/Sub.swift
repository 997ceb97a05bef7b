import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport
import Logging
import ServiceLifecycle
import Synchronization

/// `grenache sub KEY`
struct Sub: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Subscribe to all publishers of a key and print their messages until SIGTERM.",
    discussion: """
      Messages that were missed are told on standard error, or as JSON; whom it cannot follow, and why, is \
      logged. Exit code 75 when --timeout is over before a message has come, or before --count have.

      With --json each line has a publisher, the run of it (null where it does not count), and one of: \
      message, a text; bytes, in base64; gap, the first and the last number that were missed as from and \
      to, or null where nobody knows which. Messages and bytes have their number and topic, or null.
      """)

  @Argument(help: "The key.")
  var key: String
  @Option(help: "Only messages about this; several times for several topics.")
  var topic: [String] = []
  @Option(help: "End after this many messages.")
  var count: Int?
  @Option(help: "Seconds in which the first message, or with --count all of them, have to come.")
  var timeout: Double?
  @Flag(help: "Print JSON lines.")
  var json = false
  @Flag(
    help: """
      Believe publishers that a lookup finds by their address alone: any host with a certificate for \
      its own address can publish every key.
      """)
  var insecureAcceptPublishersByAddress = false
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      guard count ?? 1 > 0 else { throw CommandFailure(.usage, "--count: at least 1.") }
      try checkTopics(topic)
      let wait = try timeout.map { try duration($0) }
      let logger = try grapes.logging.logger("grenache")
      let link = try await grapes.link(logger)
      var configuration = PeerSubConfiguration()
      configuration.topics = topic.isEmpty ? nil : topic
      configuration.acceptsInsecurePublishersByAddress = insecureAcceptPublishersByAddress
      let sub = try await PeerSub(key, link: link, configuration: configuration)
      try await runServices(
        [Printer(sub: sub, count: count, wait: wait, json: json)], logger: logger)
    }
  }
}

/// Prints what a subscriber hears.
private struct Printer: Service {
  let sub: PeerSub
  let count: Int?
  /// How long the messages that have to come may take.
  let wait: Duration?
  let json: Bool

  func run() async throws {
    let (sub, heard) = (sub, HeardMessages())
    let end = await withTaskGroup { group in
      group.addTask {
        await sub.run()
        return End.shutdown
      }
      group.addTask { [self] in await printAll(heard) }
      if let wait {
        group.addTask {
          // Cancelled when another one ends.
          let isOver = (try? await Task.sleep(for: wait)) != nil
          return isOver ? .timeout : .shutdown
        }
      }
      var end = End.shutdown
      while let next = await group.next() {
        // What had to come has come: it goes on for as long as others wish.
        if next == .timeout, heard.count >= count ?? 1 { continue }
        end = next
        break
      }
      group.cancelAll()
      return end
    }
    switch end {
    case .shutdown: return
    // A service that ends by itself would end the others as if it had failed.
    case .count: throw ExitCode.success
    case .timeout: throw CommandFailure(.temporary, tooLate(heard.count))
    }
  }

  /// What has come to its end.
  private enum End {
    case count
    case timeout
    case shutdown
  }

  private func printAll(_ heard: HeardMessages) async -> End {
    for await event in sub {
      Self.show(event, json: json)
      guard case .message = event else { continue }
      if heard.add() == count { return .count }
    }
    return .shutdown
  }

  private func tooLate(_ heard: Int) -> String {
    count.map { "\(heard) of \($0) messages of \(sub.key) came in time." }
      ?? "no message of \(sub.key) came in time."
  }

  /// A text, or bytes as they are.
  private static func show(_ content: PubMessage.Content) {
    switch content {
    case .text(let text): printLine(text)
    case .bytes(let bytes): printBytes(bytes + [UInt8(ascii: "\n")])
    }
  }

  private static func show(_ event: SubscriptionEvent, json: Bool) {
    switch event {
    case .message(let message, let publisher):
      guard json else { return show(message.content) }
      var object: [String: Any] = [
        "topic": message.topic ?? NSNull(), "number": message.number ?? NSNull(),
        "run": message.run ?? NSNull(), "publisher": "\(publisher)",
      ]
      switch message.content {
      case .text(let text): object["message"] = text
      case .bytes(let bytes): object["bytes"] = Data(bytes).base64EncodedString()
      }
      printLine(JSONLine.object(object))
    case .gap(let numbers, let run, let publisher):
      if json {
        let gap = numbers.map { ["from": $0.lowerBound, "to": $0.upperBound] }
        printLine(
          JSONLine.object([
            "gap": gap ?? NSNull(), "run": run ?? NSNull(), "publisher": "\(publisher)",
          ]))
      } else {
        let text = numbers.map { "\($0.lowerBound) to \($0.upperBound)" } ?? "nobody knows which"
        printError("missed of \(publisher): \(text)")
      }
    }
  }
}

/// Counts messages for those who wait for them.
private final class HeardMessages: Sendable {
  private let heard = Atomic<Int>(0)

  var count: Int { heard.load(ordering: .relaxed) }

  func add() -> Int { heard.wrappingAdd(1, ordering: .relaxed).newValue }
}
