import Foundation
import Glibc
import Grenache
import Synchronization

/// A shell command that answers a call: payload on its standard input, reply from its output.
struct ShellCommand {
  /// What one command may print; a command that prints more is ended.
  static let outputBytesMax = 1 << 20
  /// How long a command, and what it has started, may take to end once it is asked to.
  static let endTime = 2.0

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
          Self.unblockSignals()
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

  /// Tasks run on threads that block signals, which those inherit that they start, processes included: a
  /// command could not be asked to end.
  private static func unblockSignals() {
    var none = sigset_t()
    unsafe sigemptyset(&none)
    unsafe pthread_sigmask(SIG_SETMASK, &none, nil)
  }

  /// JSON as it is, anything else as a string without its last line feed.
  private static func reply(_ output: Data) -> [UInt8] {
    let bytes = Array(output)
    if JSONLine.isValue(bytes) { return bytes }
    let text = String(decoding: bytes, as: UTF8.self)
    return JSONLine.string(text.hasSuffix("\n") ? String(text.dropLast()) : text)
  }
}

/// A process and what it has started, which another thread may end.
private final class RunningProcess: Sendable {
  private enum State {
    case idle
    /// The process leads a group of that number, of which are those that it starts.
    case running(pid_t)
    case over
  }
  private struct Shared {
    var process: Process
    var state = State.idle
  }
  private let shared: Mutex<Shared>

  init(_ process: sending Process) {
    shared = Mutex(Shared(process: process))
  }

  /// Asks all of them to end, and ends them when they do not; a process that has not begun will not.
  func terminate() {
    let group = shared.withLock { shared -> pid_t? in
      if case .idle = shared.state { shared.state = .over }
      guard case .running(let group) = shared.state else { return nil }
      _ = Foundation.kill(-group, SIGTERM)
      return group
    }
    guard let group else { return }
    Thread.detachNewThread { Self.end(group) }
  }

  /// Whether the process has ended or not, others of its group may go on: as long as there is one, the
  /// number is nobody else's.
  private static func end(_ group: pid_t) {
    let last = ContinuousClock.now + .seconds(ShellCommand.endTime)
    while Foundation.kill(-group, 0) == 0 {
      guard ContinuousClock.now < last else {
        _ = Foundation.kill(-group, SIGKILL)
        return
      }
      Thread.sleep(forTimeInterval: 0.02)
    }
  }

  private func kill() {
    shared.withLock { shared in
      guard case .running(let group) = shared.state else { return }
      _ = Foundation.kill(-group, SIGKILL)
    }
  }

  private func start() throws {
    try shared.withLock { shared in
      guard case .idle = shared.state else { throw CancellationError() }
      try shared.process.run()
      shared.state = .running(shared.process.processIdentifier)
    }
  }

  func finish(input: [UInt8], stdin: Pipe, stdout: Pipe) throws -> (Int32, Data) {
    try start()
    // From then on the number may be another one's.
    defer { shared.withLock { $0.state = .over } }
    let writer = stdin.fileHandleForWriting
    Thread.detachNewThread {
      // A command that does not read its input closes it: that is no error.
      try? writer.write(contentsOf: Data(input))
      try? writer.close()
    }
    let output = try read(stdout.fileHandleForReading)
    return (exitStatus(options: 0) ?? 0, output)
  }

  /// What the shell has ended with, `nil` while it runs. `Process` would wait for everybody that the
  /// shell has started, too.
  private func exitStatus(options: Int32) -> Int32? {
    guard case .running(let shell) = shared.withLock({ $0.state }) else { return nil }
    var info = unsafe siginfo_t()
    while unsafe waitid(P_PID, id_t(shell), &info, WEXITED | WNOWAIT | options) != 0 {
      guard errno != EINTR else { continue }
      // `Process` has taken note of the end already.
      let ended = shared.withLock { $0.process }
      ended.waitUntilExit()
      return ended.terminationStatus
    }
    // With WNOHANG nothing is filled in for one that runs.
    guard unsafe info._sifields._sigchld.si_pid == shell else { return nil }
    let status = unsafe info._sifields._sigchld.si_status
    return unsafe info.si_code == Int32(CLD_EXITED) ? status : 128 + status
  }

  /// Reads until the end, or until the command has ended and nothing more comes: what it leaves behind
  /// may hold its output open for ever.
  private func read(_ handle: FileHandle) throws -> Data {
    var output = Data()
    var part = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      var poll = pollfd(fd: handle.fileDescriptor, events: Int16(POLLIN), revents: 0)
      let isOver = exitStatus(options: WNOHANG) != nil
      guard unsafe Foundation.poll(&poll, 1, isOver ? 0 : 100) > 0 else {
        if isOver { return output }
        continue
      }
      // Not by `FileHandle`, which waits until so much has come.
      let count = unsafe Glibc.read(handle.fileDescriptor, &part, part.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return output }
      output += part[..<count]
      guard output.count <= ShellCommand.outputBytesMax else {
        kill()
        throw RPCFault("ERR_EXEC: the command printed more than a reply may hold")
      }
    }
  }
}
