import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTLS
import GrenacheTransport

/// `grenache call SERVICE PAYLOAD`
struct Call: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Call a service and print its reply.",
    discussion: """
      The payload is JSON; what is not JSON is sent as a JSON string. Of a reply that is a string, the \
      text is printed; any other is printed as JSON. Where a worker answers with an error and a result, \
      the result is printed as well, and the exit code is that of the error.
      """)

  @Argument(help: "The service.")
  var service: String
  @Argument(help: "The payload; '-' reads it from standard input.")
  var payload: String
  @Option(help: "Call this worker, host:port, instead of one that a lookup finds.")
  var to: String?
  @Flag(help: "Print the reply with who gave it as one JSON object.")
  var json = false
  @Flag(
    name: .shortAndLong, help: "Say on standard error who answered and how long each step took.")
  var verbose = false
  @Option(help: "Seconds for the lookup and the call together.")
  var timeout: Double = 10
  @OptionGroup var transport: TransportOptions
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let timeout = try duration(timeout)
      let worker = try worker(to)
      let configuration = try transport.configuration()
      let bytes = try await JSONLine.payload(payload)
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      let client = await PeerRPCClient(link: link, configuration: configuration)
      let clock = ContinuousClock()
      let start = clock.now
      if worker == nil {
        let found = try await link.lookup(service, within: timeout)
        let names = found.map(\.description).joined(separator: ", ")
        if verbose {
          printError("lookup: \(service) at \(names.isEmpty ? "nobody" : names) [\(ms(start))]")
        }
      }
      let called = clock.now
      do throws(GrenacheError) {
        let reply = try await client.requestRaw(
          service, bytes, to: worker, within: timeout - (called - start))
        if verbose { describe(reply, took: ms(called)) }
        printReply(reply, took: ms(start))
      } catch {
        if let result = error.result { show(result, ["error": error.message, "took": ms(start)]) }
        throw error
      }
      await client.close()
    }
  }

  private func ms(_ start: ContinuousClock.Instant) -> String {
    let (seconds, attoseconds) = (ContinuousClock.now - start).components
    return String(format: "%.1f ms", Double(seconds) * 1e3 + Double(attoseconds) / 1e15)
  }

  private func describe(_ reply: RPCReply, took: String) {
    printError("worker: \(reply.worker)")
    printError("tls: \(reply.negotiated?.description ?? "none")")
    let names = reply.identity?.names.map(\.description).joined(separator: ", ")
    printError("identity of the worker: \(names ?? "none")")
    printError("call: connect, handshake, request and reply [\(took)]")
  }

  private func printReply(_ reply: RPCReply, took: String) {
    show(
      reply.result,
      [
        "worker": reply.worker.description, "took": took,
        "tls": reply.negotiated?.description ?? NSNull(),
        "identity": reply.identity?.names.map(\.description) ?? NSNull(),
      ])
  }

  /// Prints a result, with --json among what else there is to say.
  private func show(_ result: [UInt8], _ members: [String: Any]) {
    if json {
      printLine(JSONLine.object(members.merging(["result": JSONLine.Value(result)]) { $1 }))
    } else {
      printLine(JSONLine.string(of: result) ?? String(decoding: result, as: UTF8.self))
    }
  }
}
