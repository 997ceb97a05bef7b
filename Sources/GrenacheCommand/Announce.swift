import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport

/// `grenache announce SERVICE,PORT …`
struct Announce: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Announce services of this host once.",
    discussion: """
      Prints, for each, on how many other nodes it is stored. In standard input, one service a line, \
      # and ; begin comments.
      """)

  @Argument(
    help: "Services with their ports, as service,port; without any, lines of standard input.")
  var services: [String] = []
  @Option(name: .shortAndLong, help: "What stands between service and port.")
  var delimiter = ","
  @Flag(
    name: .shortAndLong,
    help: "Lines of standard input are JSON arrays, [\"service\",port]; JSON lines are printed.")
  var json = false
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let timeout = try grapes.duration()
      let parsed = try services.isEmpty ? input() : services.map(parse)
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

  /// The lines of standard input; `#` and `;` begin comments.
  private func input() throws -> [(String, UInt16)] {
    var parsed: [(String, UInt16)] = []
    while let line = readLine() {
      let text = line.trimmingCharacters(in: .whitespaces)
      if text.isEmpty || text.hasPrefix("#") || text.hasPrefix(";") { continue }
      parsed.append(json ? try parseJSON(text) : try parse(text))
    }
    return parsed
  }

  private func parseJSON(_ text: String) throws -> (String, UInt16) {
    let value = try? JSONSerialization.jsonObject(with: Data(text.utf8))
    guard let pair = value as? [Any], pair.count >= 2, let service = pair[0] as? String,
      !service.isEmpty, let number = pair[1] as? Int, let port = UInt16(exactly: number), port > 0
    else { throw CommandFailure(.usage, "\(text) is not [\"service\",port].") }
    return (service, port)
  }

  private func parse(_ text: String) throws -> (String, UInt16) {
    guard !delimiter.isEmpty, let range = text.range(of: delimiter, options: .backwards),
      let port = UInt16(text[range.upperBound...]), port > 0, range.lowerBound > text.startIndex
    else { throw CommandFailure(.usage, "\(text) is not service\(delimiter)port.") }
    return (String(text[..<range.lowerBound]), port)
  }
}
