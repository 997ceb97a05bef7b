import Foundation
import Grenache
import Synchronization

/// A shell command that answers a call: payload on its standard input, reply from its output.
struct ShellCommand {
  /// What one command may print; a command that prints more is ended.
  static let outputBytesMax = 1 << 20

  private let command: String

  init(_ command: String) { self.command = command }

  /// Runs the command to its end, on threads of its own; a call that is cancelled ends it.
  ///
  /// - Throws: `RPCFault` when the command fails.
  func run(input: [UInt8]) async throws -> [UInt8] {
    let process = Process()
    process.executableURL = URL(filePath: "/bin/sh")
    process.arguments = ["-c", command]
    let (stdin, stdout) = (Pipe(), Pipe())
    process.standardInput = stdin
    process.standardOutput = stdout
    let running = RunningProcess(process)
    let (status, output) = try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
          continuation.resume(
            with: Result { try running.finish(input: input, stdin: stdin, stdout: stdout) })
        }
      }
    } onCancel: {
      running.terminate()
    }
    guard status == 0 else { throw RPCFault("ERR_EXEC: the command ended with status \(status)") }
    return Self.reply(output)
  }

  /// JSON as it is, anything else as a string without its last line feed.
  private static func reply(_ output: Data) -> [UInt8] {
    let isJSON =
      (try? JSONSerialization.jsonObject(with: output, options: .fragmentsAllowed)) != nil
    if isJSON { return Array(output) }
    let text = String(decoding: output, as: UTF8.self)
    return JSONLine.string(text.hasSuffix("\n") ? String(text.dropLast()) : text)
  }
}

/// A process that another thread may end.
private final class RunningProcess: Sendable {
  private let process: Mutex<Process>

  init(_ process: sending Process) {
    self.process = Mutex(process)
  }

  func terminate() {
    process.withLock { if $0.isRunning { $0.terminate() } }
  }

  func finish(input: [UInt8], stdin: Pipe, stdout: Pipe) throws -> (Int32, Data) {
    try process.withLock { try $0.run() }
    let writer = stdin.fileHandleForWriting
    Thread.detachNewThread {
      // A command that does not read its input closes it: that is no error.
      try? writer.write(contentsOf: Data(input))
      try? writer.close()
    }
    var output = Data()
    while let part = try stdout.fileHandleForReading.read(upToCount: 64 << 10), !part.isEmpty {
      output += part
      guard output.count <= ShellCommand.outputBytesMax else {
        terminate()
        throw RPCFault("ERR_EXEC: the command printed more than a reply may hold")
      }
    }
    let ended = process.withLock { $0 }
    ended.waitUntilExit()
    return (ended.terminationStatus, output)
  }
}
