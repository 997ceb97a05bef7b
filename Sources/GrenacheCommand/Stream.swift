import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport

/// `grenache stream SERVICE`
struct Stream: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Stream standard input to a service and its answer to standard output.",
    discussion: "Streams go over HTTPS, both directions at the same time.")

  @Argument(help: "The service.")
  var service: String
  @Option(help: "The action, sent as the field _a.")
  var action: String?
  @Option(help: "Stream to this worker, host:port, instead of one that a lookup finds.")
  var to: String?
  @OptionGroup var proof: WorkerProofOptions
  @OptionGroup var grapes: GrapeOptions

  /// What is read from standard input at once.
  static let readBytes = 64 << 10

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let worker = try worker(to)
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      var configuration = PeerRPCClientConfiguration()
      proof.apply(to: &configuration)
      let client = await PeerRPCClient(link: link, configuration: configuration)
      try await client.stream(
        service, action: action, to: worker, within: try grapes.duration()
      ) { stream in
        // Not waited for: the answer may be over while standard input goes on.
        let sending = Task { try await Self.send(to: stream) }
        for try await part in try await stream.incoming() {
          printBytes(part)
        }
        sending.cancel()
      }
      await client.close()
    }
  }

  private static func send(to stream: RPCClientStream) async throws {
    while true {
      let part = try await BlockingReader.read(STDIN_FILENO, bytesMax: readBytes)
      // Given up: what was sent so far is not the whole.
      try Task.checkCancellation()
      guard !part.isEmpty else { break }
      try await stream.write(part)
    }
    await stream.finish()
  }
}
