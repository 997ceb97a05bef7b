import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport

/// `grenache stream SERVICE`
struct Stream: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Stream standard input to a service and its answer to standard output.",
    discussion: """
      Streams go over HTTPS, both directions at the same time. Exit code 75 when --timeout is over before \
      the answer begins, or --max-time before it ends.
      """)

  @Argument(help: "The service.")
  var service: String
  @Option(help: "The action, sent as the field _a.")
  var action: String?
  @Option(help: "Stream to this worker, host:port, instead of one that a lookup finds.")
  var to: String?
  @Option(help: "Seconds that the stream may last; without it, as long as both sides go on.")
  var maxTime: Double?
  @Option(help: "Seconds until the answer begins; --max-time is for the whole of it.")
  var timeout: Double = 10
  @OptionGroup var proof: WorkerProofOptions
  @OptionGroup var grapes: GrapeOptions

  /// What is read from standard input at once.
  static let readBytes = 64 << 10

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let worker = try worker(to)
      let timeout = try duration(timeout)
      let maxTime = try maxTime.map { try duration($0, "--max-time") }
      let link = try await grapes.link(try grapes.logging.logger("grenache"))
      var configuration = PeerRPCClientConfiguration()
      proof.apply(to: &configuration)
      let client = await PeerRPCClient(link: link, configuration: configuration)
      try await client.stream(
        service, action: action, to: worker, within: timeout, lasting: maxTime
      ) { stream in
        try await Self.exchange(over: stream)
      }
      await client.close()
    }
  }

  /// What has come to its end: one direction, the other one may go on.
  private enum Direction {
    case sending
    case receiving
  }

  /// Sends what is read and prints what comes, until the answer is over, whether standard input is or not.
  private static func exchange(over stream: RPCClientStream) async throws {
    try await withThrowingTaskGroup(of: Direction.self) { group in
      group.addTask {
        try await send(to: stream)
        return .sending
      }
      group.addTask {
        for try await part in try await stream.incoming() { printBytes(part) }
        return .receiving
      }
      while let direction = try await group.next(), direction == .sending {}
      group.cancelAll()
    }
  }

  /// - Throws: `BlockingReader.Failure`: what was sent is not the whole, so that the stream has to end.
  private static func send(to stream: RPCClientStream) async throws {
    while true {
      let part = try await BlockingReader.read(STDIN_FILENO, bytesMax: readBytes)
      // Given up: what was sent so far is not the whole.
      try Task.checkCancellation()
      guard !part.isEmpty else { break }
      // A worker that takes no more has answered or gone: what comes from it says which.
      do { try await stream.write(part) } catch { return }
    }
    await stream.finish()
  }
}
