import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport

/// `grenache announce SERVICE,PORT …`
struct Announce: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Announce services of this host once.",
    discussion: """
      Prints, for each, on how many other nodes it is stored. Standard input has one service a \
      line, which is announced when it comes; what follows # or ; is a comment. What cannot be \
      announced is told on standard error and the others are announced all the same: the exit \
      code is 0 when one of them was.
      """)

  @Argument(
    help: "Services with their ports, as service,port; without any, lines of standard input.")
  var services: [String] = []
  @Option(name: .shortAndLong, help: "What stands between service and port.")
  var delimiter = ","
  @Flag(
    name: .shortAndLong,
    help: """
      Services are JSON, ["service",port] or {"data":["service",port]}; JSON lines are printed.
      """)
  var json = false
  @OptionGroup var options: GrapeToolOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      guard !delimiter.isEmpty else { throw CommandFailure(.usage, "--delimiter is empty.") }
      let timeout = try options.grapes.duration()
      let form = json ? ServiceLine.Form.json : .delimited(delimiter)
      // Mistakes in words are found before anything is done.
      let words = try services.map { word in
        do { return try ServiceLine(word, form) } catch let failure as CommandFailure {
          throw CommandFailure(.usage, failure.description)
        }
      }
      let link = try await options.link()
      var announcer = Announcer(
        link: link, timeout: timeout, delimiter: json ? nil : delimiter,
        progress: TerminalProgress(isWanted: !json))
      if services.isEmpty {
        try await Self.announceInput(form, &announcer)
      } else {
        for word in words { await announcer.announce { word } }
      }
      announcer.progress.clear()
      await link.close()
      if let exit = announcer.exit { throw ExitCode(exit.rawValue) }
    }
  }

  private static func announceInput(
    _ form: ServiceLine.Form, _ announcer: inout Announcer
  ) async throws {
    var lines = InputLines().makeAsyncIterator()
    while true {
      do throws(InputLines.Failure) {
        guard let line = try await lines.next() else { return }
        guard let text = ServiceLine.content(of: line, form) else { continue }
        await announcer.announce { try ServiceLine(text, form) }
      } catch {
        guard error.code == .notText else { throw error }
        announcer.passOver(error, .data)
      }
    }
  }
}

/// Announces one service after the other and keeps count.
private struct Announcer {
  let link: Link
  let timeout: Duration
  /// `nil` prints JSON lines.
  let delimiter: String?
  let progress: TerminalProgress
  private var announced = 0
  private var failure: CommandExit?

  init(link: Link, timeout: Duration, delimiter: String?, progress: TerminalProgress) {
    self.link = link
    self.timeout = timeout
    self.delimiter = delimiter
    self.progress = progress
  }

  /// What the process ends with, if not with 0: why the last one could not be announced.
  var exit: CommandExit? {
    announced > 0 ? nil : failure ?? .data
  }

  mutating func announce(_ line: () throws -> ServiceLine) async {
    do {
      let line = try line()
      progress.show("announcing \(line.service), \(announced) announced")
      let stored = try await link.announce(line.service, port: line.port, within: timeout)
      progress.clear()
      announced += 1
      if let delimiter {
        printLine("\(line.service)\(delimiter)\(line.port) stored on \(stored)")
      } else {
        printLine(
          JSONLine.object(["service": line.service, "port": Int(line.port), "stored": stored]))
      }
    } catch {
      passOver(error, (error as? CommandFailure)?.exit ?? commandExit(for: error))
    }
  }

  /// Tells what could not be announced.
  mutating func passOver(_ error: any Error, _ exit: CommandExit) {
    progress.clear()
    printError("error: \(error)")
    failure = exit
  }
}
