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
      each of them. Services that nobody announces, or that cannot be looked up, are told on standard \
      error, and the others are looked up all the same. The exit code is 0 when one was found, 69 when \
      nobody announces any, otherwise that of the last failure.
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
  @Option(help: "Seconds for each service.")
  var timeout: Double = 10
  @OptionGroup var options: GrapeToolOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let timeout = try duration(timeout)
      let link = try await options.link()
      let progress = TerminalProgress(isWanted: !json)
      var (hasFound, failure) = (false, CommandExit.unavailable)
      for service in services {
        progress.show("looking up \(service)")
        do {
          let workers = try await workers(of: service, within: timeout, link).map(\.description)
          progress.clear()
          guard !workers.isEmpty else {
            throw CommandFailure(.unavailable, "nobody announces \(service.quotedForLog()).")
          }
          for line in try lines(workers) { printLine(line) }
          hasFound = true
        } catch {
          progress.clear()
          failure = tell(error)
        }
      }
      await link.close()
      if !hasFound { throw ExitCode(failure.rawValue) }
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
