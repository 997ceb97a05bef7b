import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheTransport

/// `grenache lookup SERVICE …`
struct Lookup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Look up who announces services.",
    discussion: """
      Prints one line for each service: a worker drawn by chance, or what the options say, one line for \
      each of them. Services that nobody announces are told on standard error; the exit code is 69 when \
      nobody announces any.
      """)

  @Argument(help: "The services.")
  var services: [String]
  @Flag(name: .shortAndLong, help: "All workers, with spaces between them.")
  var all = false
  @Flag(
    name: .shortAndLong,
    help: "The first worker that is found; without other options the lookup ends with it.")
  var first = false
  @Flag(name: .shortAndLong, help: "The last worker of the grape's answer.")
  var last = false
  @Flag(name: .shortAndLong, help: "A worker drawn by chance.")
  var random = false
  @Flag(name: .shortAndLong, help: "Print a JSON array of all workers for each service.")
  var json = false
  @OptionGroup var options: GrapeToolOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let timeout = try options.grapes.duration()
      let link = try await options.link()
      let progress = TerminalProgress(isWanted: !json)
      var hasFound = false
      for service in services {
        progress.show("looking up \(service)")
        defer { progress.clear() }
        let workers = try await workers(of: service, within: timeout, link).map(\.description)
        progress.clear()
        guard !workers.isEmpty else {
          printError("nobody announces \(service).")
          continue
        }
        hasFound = true
        for line in try lines(workers) { printLine(line) }
      }
      await link.close()
      if !hasFound { throw ExitCode(CommandExit.unavailable.rawValue) }
    }
  }

  private func workers(
    of service: String, within timeout: Duration, _ link: Link
  ) async throws -> [Endpoint] {
    guard first, !(all || last || random || json) else {
      return try await link.lookup(service, within: timeout)
    }
    for try await worker in link.workers(of: service, within: timeout) { return [worker] }
    return []
  }

  /// What is printed of workers, of whom there is at least one.
  private func lines(_ workers: [String]) throws -> [String] {
    if json {
      let data = try JSONSerialization.data(
        withJSONObject: workers, options: .withoutEscapingSlashes)
      return [String(decoding: data, as: UTF8.self)]
    }
    var lines: [String] = []
    if all { lines.append(workers.joined(separator: " ")) }
    if first { lines += workers.prefix(1) }
    if last { lines += workers.suffix(1) }
    if random || lines.isEmpty { lines += [workers.randomElement()].compactMap(\.self) }
    return lines
  }
}
