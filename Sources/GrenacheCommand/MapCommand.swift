import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport

/// `grenache map SERVICE PAYLOAD`
struct MapCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "map", abstract: "Call every worker of a service and print what each answers.",
    discussion: "Exit code 70 when a worker answers with an error or not at all.")

  @Argument(help: "The service.")
  var service: String
  @Argument(help: "The payload; '-' reads it from standard input.")
  var payload: String
  @Option(help: "Call no more workers than this, drawn by chance.")
  var limit: Int?
  @Flag(help: "Print JSON lines.")
  var json = false
  @OptionGroup var transport: TransportOptions
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      guard limit ?? 1 > 0 else { throw CommandFailure(.usage, "--limit: at least 1.") }
      let bytes = try await JSONLine.payload(payload)
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      let client = await PeerRPCClient(link: link, configuration: try transport.configuration())
      let results = try await client.map(
        service, bytes, limit: limit, within: try grapes.duration())
      var hasFailed = false
      for each in results {
        switch each.result {
        case .success(let reply):
          show(each.worker, "result", String(decoding: reply.result, as: UTF8.self), reply.result)
        case .failure(let error):
          hasFailed = true
          show(each.worker, "error", "\(error)", nil)
        }
      }
      await client.close()
      if hasFailed { throw ExitCode(CommandExit.software.rawValue) }
    }
  }

  private func show(_ worker: Endpoint, _ what: String, _ text: String, _ result: [UInt8]?) {
    if json {
      let value: Any = result.map { JSONLine.value($0) } ?? text
      printLine(JSONLine.object(["worker": "\(worker)", what: value]))
    } else {
      printLine("\(worker) \(result == nil ? "error: " : "")\(text)")
    }
  }
}
