import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport

/// `grenache get TARGET …`
struct Get: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print texts that the DHT keeps (BEP 44).",
    discussion: """
      What comes is checked against its hash or its signature: nobody on the way has to be trusted. What \
      cannot be got is told on standard error, and the others are got all the same. Exit code 69 when \
      nobody has it, 77 when what came is forged; of several, that of the last that could not be got.
      """)

  @Argument(help: "Where they are: what put printed, 40 hexadecimal digits.")
  var targets: [String]
  @Option(name: .shortAndLong, help: "The salt that a mutable item was put with.")
  var salt = ""
  @Flag(name: .shortAndLong, help: "Print the grape's whole answer, which is JSON.")
  var raw = false
  @Option(help: "Seconds for each of them.")
  var timeout: Double = 10
  @OptionGroup var options: GrapeToolOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let timeout = try duration(timeout)
      let parsed = try targets.map { text in
        guard let target = ItemTarget(text) else {
          throw CommandFailure(.usage, "\(text) is not 40 hexadecimal digits.")
        }
        return target
      }
      let link = try await options.link()
      let progress = TerminalProgress(isWanted: true)
      var failure: CommandExit?
      for target in parsed {
        progress.show("looking for \(target)")
        do {
          let item = try await link.get(target, salt: salt, within: timeout)
          progress.clear()
          guard let item else { throw CommandFailure(.unavailable, "nobody has \(target).") }
          printLine(raw ? String(decoding: item.answer, as: UTF8.self) : item.value)
        } catch {
          progress.clear()
          failure = tell(error)
        }
      }
      await link.close()
      if let failure { throw ExitCode(failure.rawValue) }
    }
  }
}
