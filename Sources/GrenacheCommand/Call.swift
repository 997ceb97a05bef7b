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

      With --json there is one object: result, worker, tls and identity (the names in the worker's \
      certificate), tookMs (milliseconds, lookup and all). Where the lookup or the call fails it is error \
      and code, tookMs, and result if there is one.
      """)

  @Argument(help: "The service.")
  var service: String
  @Argument(help: "The payload; '-' reads it from standard input.")
  var payload: String
  @Option(help: "Call this worker, host:port, instead of one that a lookup finds.")
  var to: String?
  @Flag(help: "Print the reply with who gave it, or what went wrong, as one JSON object.")
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
      let start = ContinuousClock.now
      do throws(GrenacheError) {
        let reply = try await call(bytes, to: worker, within: timeout, link, client)
        show(reply, since: start)
      } catch {
        show(error, since: start)
        throw error
      }
      await client.close()
    }
  }

  private func call(
    _ bytes: [UInt8], to worker: Endpoint?, within timeout: Duration, _ link: Link,
    _ client: PeerRPCClient
  ) async throws(GrenacheError) -> RPCReply {
    let start = ContinuousClock.now
    if worker == nil {
      let found = try await link.lookup(service, within: timeout)
      let names = found.map(\.description).joined(separator: ", ")
      if verbose {
        printError(
          "lookup: \(service) at \(names.isEmpty ? "nobody" : names) [\(text(since: start))]")
      }
    }
    let called = ContinuousClock.now
    let reply = try await client.requestRaw(
      service, bytes, to: worker, within: timeout - (called - start))
    if verbose { describe(reply, took: text(since: called)) }
    return reply
  }

  private func milliseconds(since start: ContinuousClock.Instant) -> Double {
    let (seconds, attoseconds) = (ContinuousClock.now - start).components
    // As many digits as mean anything.
    return (Double(seconds) * 1e6 + Double(attoseconds) / 1e12).rounded() / 1e3
  }

  private func text(since start: ContinuousClock.Instant) -> String {
    String(format: "%.1f ms", milliseconds(since: start))
  }

  private func describe(_ reply: RPCReply, took: String) {
    printError("worker: \(reply.worker)")
    printError("tls: \(reply.negotiated?.description ?? "none")")
    let names = reply.identity?.names.map(\.description).joined(separator: ", ")
    printError("identity of the worker: \(names ?? "none")")
    printError("call: connect, handshake, request and reply [\(took)]")
  }

  private func show(_ reply: RPCReply, since start: ContinuousClock.Instant) {
    show(
      reply.result,
      [
        "worker": reply.worker.description, "tookMs": milliseconds(since: start),
        "tls": reply.negotiated?.description ?? NSNull(),
        "identity": reply.identity?.names.map(\.description) ?? NSNull(),
      ])
  }

  private func show(_ error: GrenacheError, since start: ContinuousClock.Instant) {
    guard json || error.result != nil else { return }
    show(
      error.result,
      JSONLine.members(of: error).merging(["tookMs": milliseconds(since: start)]) { $1 })
  }

  /// Prints a result, with --json among what else there is to say.
  private func show(_ result: [UInt8]?, _ members: [String: Any]) {
    if json {
      var members = members
      members["result"] = result.map { JSONLine.Value($0) }
      printLine(JSONLine.object(members))
    } else if let result {
      printLine(JSONLine.string(of: result) ?? String(decoding: result, as: UTF8.self))
    }
  }
}
