import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport

/// `grenache map SERVICE PAYLOAD`
struct MapCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "map", abstract: "Call every worker of a service and print what each answers.",
    discussion: """
      Exit code 70 when a worker answers with an error or not at all; with --json error and code say which.
      """)

  @Argument(help: "The service.")
  var service: String
  @Argument(help: "The payload; '-' reads it from standard input.")
  var payload: String
  @Option(help: "Call no more workers than this, drawn by chance.")
  var limit: Int?
  @Flag(help: "Print JSON lines.")
  var json = false
  @Option(help: "Seconds for the whole of it.")
  var timeout: Double = 10
  @OptionGroup var transport: TransportOptions
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      guard limit ?? 1 > 0 else { throw CommandFailure(.usage, "--limit: at least 1.") }
      let bytes = try await JSONLine.payload(payload)
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      let client = await PeerRPCClient(link: link, configuration: try transport.configuration())
      let results = try await client.mapRaw(
        service, bytes, limit: limit, within: try duration(timeout))
      var hasFailed = false
      for each in results {
        switch each.result {
        case .success(let reply):
          show(each.worker, reply.result, nil)
        case .failure(let error):
          hasFailed = true
          show(each.worker, error.result, error)
        }
      }
      await client.close()
      if hasFailed { throw ExitCode(CommandExit.software.rawValue) }
    }
  }

  private func show(_ worker: Endpoint, _ result: [UInt8]?, _ error: GrenacheError?) {
    if json {
      var object: [String: Any] = ["worker": "\(worker)"]
      object["result"] = result.map { JSONLine.Value($0) }
      if let error { object.merge(JSONLine.members(of: error)) { $1 } }
      printLine(JSONLine.object(object))
    } else if let error {
      printLine("\(worker) error: \(error)")
    } else {
      printLine("\(worker) \(String(decoding: result ?? [], as: UTF8.self))")
    }
  }
}
