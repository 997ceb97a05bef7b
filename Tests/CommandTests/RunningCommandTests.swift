import Foundation
import TestSupport
import Testing

@Suite("Commands under test", .timeLimit(.minutes(1)))
struct RunningCommandTests {
  /// A program that does not end when it is asked to.
  private func stubborn() async throws -> RunningCommand {
    let command = try RunningCommand(
      "/bin/sh", ["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
    #expect(await command.firstLine() == "ready")
    return command
  }

  @Test("one that ignores SIGTERM ends with the test that waits for it", arguments: [true, false])
  func cancelled(isAsked: Bool) async throws {
    let command = try await stubborn()
    let waiting = Task { isAsked ? await command.terminate() : await command.end().status }
    waiting.cancel()
    #expect(await waiting.value == SIGKILL)
  }

  @Test("one that ignores SIGTERM ends when nobody holds it any more")
  func dismissed() async throws {
    var command: RunningCommand? = try await stubborn()
    let identifier = try #require(command?.processIdentifier)
    command = nil
    try await eventually(within: .seconds(30)) { kill(identifier, 0) != 0 }
  }
}
