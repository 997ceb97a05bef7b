import Foundation
import Synchronization
import TestSupport

/// The programs under test, beside the test's own.
enum Programs {
  static let folder = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent().path
  static let grape = "\(folder)/grape"
  static let grenache = "\(folder)/grenache"
  static let curl = "/usr/bin/curl"
  static let openssl = "/usr/bin/openssl"
  static let python = "\(GeneratedCertificates.packageRoot)/.venv/bin/python"
  static let interop = "\(GeneratedCertificates.packageRoot)/Tests/Interop"
  static var hasPython: Bool {
    Interoperation.isRequired || FileManager.default.isExecutableFile(atPath: python)
  }
}

/// What a program that has ended leaves.
struct Ended {
  var status: Int32
  var output: String
  var errors: String
}

/// A program that runs beside the test; it is ended with the last reference to it.
final class RunningCommand: Sendable {
  private let process: ChildProcess
  private let input = Pipe()
  private let lines: AsyncStream<String>
  private let errorText = Transcript()
  private let errorsEnd: AsyncStream<Never>

  init(_ path: String, _ arguments: [String], environment: [String: String] = [:]) throws {
    let process = Process()
    process.executableURL = URL(filePath: path)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.filter {
      !$0.key.hasPrefix("GRENACHE_")
    }.merging(environment) { $1 }
    process.standardInput = input
    let output = Pipe()
    let errors = Pipe()
    process.standardOutput = output
    process.standardError = errors
    let (lines, continuation) = AsyncStream.makeStream(of: String.self)
    self.lines = lines
    let (errorsEnd, errorsContinuation) = AsyncStream.makeStream(of: Never.self)
    self.errorsEnd = errorsEnd
    try Self.start(process)
    self.process = ChildProcess(process)
    Self.read(output) {
      continuation.yield($0)
    } end: {
      continuation.finish()
    }
    Self.read(errors) { [errorText] line in
      errorText.append(line)
    } end: { [errorText] in
      errorText.end()
      errorsContinuation.finish()
    }
  }

  /// Tasks run on threads that block signals, and a process inherits that from the thread that starts it.
  private static func start(_ process: Process) throws {
    var (none, before) = (sigset_t(), sigset_t())
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
  }

  deinit { process.dismiss() }

  var processIdentifier: Int32 { process.identifier }

  /// What the program has said on standard error so far.
  var errors: String { errorText.text }

  /// Waits until the program has said a text on standard error so many times; `false` when it ends before.
  func says(_ text: String, times: Int = 1) async -> Bool {
    await errorText.contains(text, times: times)
  }

  /// The first line of standard output; empty when the program ends without one.
  func firstLine() async -> String {
    for await line in lines { return line }
    return ""
  }

  /// Writes to the program's standard input; what the pipe does not take waits until it does.
  func write(_ text: String) {
    // A program that has ended reads nothing: its status says so.
    _ = signal(SIGPIPE, SIG_IGN)
    try? input.fileHandleForWriting.write(contentsOf: Data(text.utf8))
  }

  func closeInput() {
    try? input.fileHandleForWriting.close()
  }

  /// Asks the program to end and waits until it has.
  func terminate() async -> Int32 {
    let status = await process.terminate()
    for await _ in lines {}
    return status
  }

  /// Waits for the program's end.
  func end() async -> Ended {
    var output: [String] = []
    for await line in lines { output.append(line) }
    for await _ in errorsEnd {}
    let status = await process.end()
    return Ended(status: status, output: output.joined(separator: "\n"), errors: errors)
  }

  private static func read(
    _ pipe: Pipe, line: @escaping @Sendable (String) -> Void, end: @escaping @Sendable () -> Void
  ) {
    let handle = pipe.fileHandleForReading
    Thread.detachNewThread {
      let lineFeed = Data([0x0a])
      var rest = Data()
      while true {
        let data = handle.availableData
        guard !data.isEmpty else { break }
        var searched = rest.count
        rest += data
        // By Foundation, which is quick in debug builds, too.
        while let newline = rest.range(of: lineFeed, in: searched..<rest.count) {
          line(String(decoding: rest[..<newline.lowerBound], as: UTF8.self))
          rest = Data(rest[newline.upperBound...])
          searched = 0
        }
      }
      if !rest.isEmpty { line(String(decoding: rest, as: UTF8.self)) }
      end()
    }
  }
}

/// Lines that a thread writes and others read, or wait for.
private final class Transcript: Sendable {
  private struct Waiting {
    var id: UUID
    var text: String
    var times: Int
    var continuation: CheckedContinuation<Bool, Never>
  }
  private struct State {
    var text = ""
    var isOver = false
    var waiting: [Waiting] = []

    func contains(_ part: String, _ times: Int) -> Bool {
      text.components(separatedBy: part).count > times
    }
  }
  private let state = Mutex(State())

  var text: String { state.withLock { $0.text } }

  func append(_ line: String) {
    state.withLock { state in
      state.text += line + "\n"
      let (done, waiting) = state.waiting.reduce(into: ([Waiting](), [Waiting]())) { all, one in
        if state.contains(one.text, one.times) { all.0.append(one) } else { all.1.append(one) }
      }
      state.waiting = waiting
      for one in done { one.continuation.resume(returning: true) }
    }
  }

  func end() {
    state.withLock { state in
      state.isOver = true
      for waiting in state.waiting { waiting.continuation.resume(returning: false) }
      state.waiting = []
    }
  }

  func contains(_ text: String, times: Int) async -> Bool {
    let id = UUID()
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        state.withLock { state in
          let isThere = state.contains(text, times)
          guard !isThere, !state.isOver, !Task.isCancelled else {
            return continuation.resume(returning: isThere)
          }
          state.waiting.append(
            Waiting(id: id, text: text, times: times, continuation: continuation))
        }
      }
    } onCancel: {
      state.withLock { state in
        guard let index = state.waiting.firstIndex(where: { $0.id == id }) else { return }
        state.waiting.remove(at: index).continuation.resume(returning: false)
      }
    }
  }
}

/// Runs a program to its end.
func run(_ path: String, _ arguments: String...) async throws -> Ended {
  try await run(path, arguments)
}

/// The same, for arguments in a list.
func run(
  _ path: String, _ arguments: [String], environment: [String: String] = [:]
) async throws -> Ended {
  let command = try RunningCommand(path, arguments, environment: environment)
  command.closeInput()
  return await command.end()
}

/// A member of one line of JSON.
func member(_ name: String, of line: String) -> String {
  let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
  return object?[name] as? String ?? ""
}

/// The port behind the last colon.
func port(of address: String) -> String {
  String(address.split(separator: ":").last ?? "")
}
