import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport

/// `grenache lookup SERVICE`
struct Lookup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Look up who announces a service.",
    discussion: "Prints one worker drawn by chance; exit code 69 when there is none.")

  @Argument(help: "The service.")
  var service: String
  @Flag(help: "Print all workers.")
  var all = false
  @Flag(help: "Print the first worker of the grape's answer.")
  var first = false
  @Flag(help: "Print a JSON array of all workers.")
  var json = false
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let timeout = try grapes.duration()
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      let workers = try await link.lookup(service, within: timeout).map(\.description)
      guard let one = first ? workers.first : workers.randomElement() else {
        throw CommandFailure(.unavailable, "nobody announces \(service).")
      }
      if json {
        let data = try JSONSerialization.data(
          withJSONObject: workers, options: .withoutEscapingSlashes)
        printLine(String(decoding: data, as: UTF8.self))
      } else {
        for worker in all ? workers : [one] { printLine(worker) }
      }
    }
  }
}
