import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport

/// `grenache announce SERVICE,PORT …`
struct Announce: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Announce services of this host once.",
    discussion: "Prints, for each, on how many other nodes it is stored.")

  @Argument(help: "Services with their ports, as service,port.")
  var services: [String]
  @Option(name: .shortAndLong, help: "What stands between service and port.")
  var delimiter = ","
  @Flag(help: "Print JSON lines.")
  var json = false
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let parsed = try services.map(parse)
      let timeout = try grapes.duration()
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      for (service, port) in parsed {
        let stored = try await link.announce(service, port: port, within: timeout)
        if json {
          printLine(JSONLine.object(["service": service, "port": Int(port), "stored": stored]))
        } else {
          printLine("\(service)\(delimiter)\(port) stored on \(stored)")
        }
      }
    }
  }

  private func parse(_ text: String) throws -> (String, UInt16) {
    guard !delimiter.isEmpty, let range = text.range(of: delimiter, options: .backwards),
      let port = UInt16(text[range.upperBound...]), port > 0, range.lowerBound > text.startIndex
    else { throw CommandFailure(.usage, "\(text) is not service\(delimiter)port.") }
    return (String(text[..<range.lowerBound]), port)
  }
}
