import ArgumentParser
import Foundation
import Glibc

/// The server, as another process whose processor time and memory can be read.
final class ServerProcess {
  let port: UInt16
  private let process = Process()
  private let input = Pipe()

  /// This program's own server of calls.
  ///
  /// - Parameter answersPlaintext: whether it answers callers in the clear on the same port, too.
  static func calls(
    certificates: String, answersPlaintext: Bool = false
  ) throws -> ServerProcess {
    let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    let plaintext = answersPlaintext ? ["--insecure-plaintext-beside-tls"] : []
    return try ServerProcess(program, ["server", "--certificates", certificates] + plaintext)
  }

  /// `grenache echo`, which has been built beside this program.
  static func echo(certificates: String) throws -> ServerProcess {
    let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
      .deletingLastPathComponent().appending(path: "grenache")
    return try ServerProcess(program, ["echo", "--port", "0", "--tls-dir", certificates])
  }

  private init(_ program: URL, _ arguments: [String]) throws {
    process.executableURL = program
    process.arguments = arguments
    let output = Pipe()
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    // The line ends with the port, by itself or behind an address.
    let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    let digits = line.trimmingCharacters(in: .whitespacesAndNewlines).split(separator: ":").last
    guard let port = digits.flatMap({ UInt16($0) }) else { throw ExitCode.failure }
    self.port = port
  }

  func terminate() {
    process.terminate()
    process.waitUntilExit()
  }

  /// User and system time of all threads so far.
  var cpuSeconds: Double {
    var clock = clockid_t()
    var time = timespec()
    guard clock_getcpuclockid(process.processIdentifier, &clock) == 0,
      clock_gettime(clock, &time) == 0
    else { return 0 }
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  var residentBytes: Int {
    let path = "/proc/\(process.processIdentifier)/statm"
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return 0 }
    let fields = text.split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
  }
}
