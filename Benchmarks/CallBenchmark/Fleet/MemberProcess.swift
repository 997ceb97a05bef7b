import ArgumentParser
import Foundation
import Glibc
import GrenacheTransport
import Synchronization

/// A member of a fleet as another process, which can be killed.
final class MemberProcess: Sendable {
  let port: UInt16
  let dhtPort: UInt16
  let identifier: Int32
  /// What makes it the member that it is, wherever it runs.
  let arguments: [String]
  private let process: Mutex<Process>
  private let input = Pipe()
  private let ended: AsyncStream<Int32>

  var endpoint: Endpoint { Endpoint(host: "127.0.0.1", port: port) }

  /// How long a member may take until it is ready.
  private static let startTimeMax = Duration.seconds(60)

  /// Starts a member and waits until it is ready; kills one that takes too long.
  ///
  /// - Parameters:
  ///   - environment: where it runs, which may be another place when it starts again.
  ///   - line: is given what it says afterwards, on a thread of its own.
  init(
    _ role: Member.Role, _ arguments: [String], environment: [String],
    line: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws {
    self.arguments = arguments
    let process = Process()
    process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = ["member", "--role", role.rawValue] + environment + arguments
    process.standardInput = input
    let output = Pipe()
    process.standardOutput = output
    let (ended, end) = AsyncStream.makeStream(of: Int32.self)
    self.ended = ended
    process.terminationHandler = { process in
      let isExit = process.terminationReason == .exit
      end.yield(isExit ? process.terminationStatus : -process.terminationStatus)
      end.finish()
    }
    try process.run()
    identifier = process.processIdentifier
    self.process = Mutex(process)
    let (first, found) = AsyncStream.makeStream(of: String.self)
    Self.read(output) { text in
      if text.hasPrefix("ready ") { found.yield(text) } else { line(text) }
    } end: {
      found.finish()
    }
    let last = Task { [identifier] in
      try await Task.sleep(for: Self.startTimeMax)
      _ = Glibc.kill(identifier, SIGKILL)
    }
    defer { last.cancel() }
    var iterator = first.makeAsyncIterator()
    let ports = (await iterator.next() ?? "").split(separator: " ").compactMap { UInt16($0) }
    guard ports.count == 2 else { throw ExitCode.failure }
    port = ports[0]
    dhtPort = ports[1]
  }

  /// How it ended when it was asked to.
  struct Ending {
    /// Longer than any shutdown may take.
    static let timeMax = Duration.seconds(30)

    /// The exit status, negative for a signal.
    var status: Int32
    var took: Duration

    /// What is wrong with it.
    var fault: String? {
      if status != 0 { return "ended with \(status)" }
      return took > Self.timeMax ? "took \(took) to end" : nil
    }
  }

  /// Ends it as `kill -9` does.
  func kill() async {
    signal(SIGKILL)
    for await _ in ended {}
    try? input.fileHandleForWriting.close()
  }

  /// Asks it to end, and kills it when it takes far too long.
  func terminate() async -> Ending {
    let start = ContinuousClock.now
    signal(SIGTERM)
    let last = Task {
      try await Task.sleep(for: Ending.timeMax * 2)
      signal(SIGKILL)
    }
    defer {
      last.cancel()
      try? input.fileHandleForWriting.close()
    }
    for await status in ended { return Ending(status: status, took: ContinuousClock.now - start) }
    return Ending(status: -1, took: ContinuousClock.now - start)
  }

  /// Of one that has ended the number may be another one's.
  private func signal(_ number: Int32) {
    process.withLock { if $0.isRunning { _ = Glibc.kill(identifier, number) } }
  }

  var usage: ProcessUsage { ProcessUsage(of: identifier) }

  private static func read(
    _ pipe: Pipe, line: @escaping @Sendable (String) -> Void, end: @escaping @Sendable () -> Void
  ) {
    let handle = pipe.fileHandleForReading
    Thread.detachNewThread {
      var rest = Data()
      while true {
        let data = handle.availableData
        guard !data.isEmpty else { break }
        rest += data
        guard let end = rest.lastIndex(of: 0x0a) else { continue }
        for text in rest[..<end].split(separator: 0x0a) {
          line(String(decoding: text, as: UTF8.self))
        }
        rest = Data(rest[rest.index(after: end)...])
      }
      try? handle.close()
      end()
    }
  }
}

/// What a process holds.
struct ProcessUsage: Sendable {
  var residentBytes: Int
  var descriptors: Int
  /// Processor time so far, of all threads.
  var cpuSeconds: Double
  /// How many descriptors there are of each kind: of sockets, pipes and files by name.
  var kinds: [String: Int] = [:]

  /// - Parameter identifier: `nil` for this process.
  init(of identifier: Int32? = nil) {
    let path = identifier.map { "/proc/\($0)" } ?? "/proc/self"
    let text = (try? String(contentsOfFile: "\(path)/statm", encoding: .utf8)) ?? ""
    let fields = text.split(separator: " ")
    residentBytes =
      (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
    let stat = (try? String(contentsOfFile: "\(path)/stat", encoding: .utf8)) ?? ""
    // Behind the name, which may hold spaces: the 12th and 13th are user and system time.
    let times = stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].split(separator: " ")
      .dropFirst(12).prefix(2).compactMap { Double($0) }
    cpuSeconds = times.reduce(0, +) / Double(sysconf(Int32(_SC_CLK_TCK)))
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(path)/fd")) ?? []
    descriptors = names.count
    for name in names {
      let target =
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(path)/fd/\(name)")) ?? "gone"
      kinds[String(target.prefix { $0 != ":" || target.hasPrefix("anon") }), default: 0] += 1
    }
  }

  /// The TCP sockets of this process: those by which it is told how its children end are others.
  static var tcpSockets: Int {
    let folder = "/proc/self/fd"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    let own = Set(
      names.compactMap {
        try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)")
      })
    return ["tcp", "tcp6"].reduce(0) { count, table in
      let text = (try? String(contentsOfFile: "/proc/self/net/\(table)", encoding: .utf8)) ?? ""
      // The tenth column is the socket's number.
      return count
        + text.split(separator: "\n").count { line in
          let columns = line.split(separator: " ")
          return columns.count > 9 && own.contains("socket:[\(columns[9])]")
        }
    }
  }
}
