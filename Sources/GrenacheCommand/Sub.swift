import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport
import Logging
import ServiceLifecycle

/// `grenache sub KEY`
struct Sub: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Subscribe to all publishers of a key and print their messages until SIGTERM.",
    discussion: """
      Messages that were missed are told on standard error, or as JSON; whom it cannot follow, and why, is \
      logged.
      """)

  @Argument(help: "The key.")
  var key: String
  @Option(help: "Only messages about this; several times for several topics.")
  var topic: [String] = []
  @Option(help: "End after this many messages.")
  var count: Int?
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
      let logger = try grapes.logging.logger("grenache")
      let link = try await grapes.link(logger)
      var configuration = PeerSubConfiguration()
      configuration.topics = topic.isEmpty ? nil : topic
      configuration.acceptsPublishersByAddress = insecureAcceptPublishersByAddress
      let sub = try await PeerSub(key, link: link, configuration: configuration)
      try await runServices([Printer(sub: sub, count: count, json: json)], logger: logger)
    }
  }
}

/// Prints what a subscriber hears.
private struct Printer: Service {
  let sub: PeerSub
  let count: Int?
  let json: Bool

  func run() async throws {
    let (sub, count, json) = (sub, count, json)
    let isDone = await withTaskGroup { group in
      group.addTask {
        await sub.run()
        return false
      }
      group.addTask {
        var left = count ?? .max
        for await event in sub {
          Self.show(event, json: json)
          if case .message = event { left -= 1 }
          if left <= 0 { return true }
        }
        return false
      }
      let isDone = await group.next() ?? false
      group.cancelAll()
      return isDone
    }
    // A service that ends by itself would end the others as if it had failed.
    if isDone { throw ExitCode.success }
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
      printLine(
        JSONLine.object([
          "message": message.text, "topic": message.topic ?? NSNull(),
          "number": message.number ?? NSNull(), "run": message.run ?? NSNull(),
          "publisher": "\(publisher)",
        ]))
    case .gap(let numbers, let run, let publisher):
      let text = numbers.map { "\($0.lowerBound) to \($0.upperBound)" } ?? "nobody knows which"
      if json {
        printLine(
          JSONLine.object(["gap": text, "run": run ?? NSNull(), "publisher": "\(publisher)"]))
      } else {
        printError("missed of \(publisher): \(text)")
      }
    }
  }
}
