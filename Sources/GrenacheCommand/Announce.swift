import ArgumentParser
import Grenache
import GrenacheCommandSupport
import Logging
import ServiceLifecycle

/// `grenache announce SERVICE,PORT …`
struct Announce: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Announce services of this host, once or for as long as it runs.",
    discussion: """
      Prints, for each, on how many other nodes it is stored. Grapes forget it after 120 s, unless it is \
      announced again: with --keep it is, until SIGINT or SIGTERM, and is withdrawn then. Standard input \
      has one service a line, which is announced when it comes; what follows # or ; is a comment. What \
      cannot be announced is told on standard error and the others are announced all the same: the exit \
      code is 0 when one of them was.
      """)

  @Argument(
    help: "Services with their ports, as service,port; without any, lines of standard input.")
  var services: [String] = []
  @Option(
    name: .shortAndLong,
    help: "What stands between service and port; a # or ; in it begins no comment.")
  var delimiter = ","
  @Flag(
    name: .shortAndLong,
    help: """
      Services are JSON, ["service",port] or {"data":["service",port]}; JSON lines are printed.
      """)
  var json = false
  @Flag(
    help: """
      Keep announcing until SIGINT or SIGTERM, then withdraw: for services that do not announce \
      themselves. What no grape takes at first is tried again, unless it is not permitted.
      """)
  var keep = false
  @Option(help: "Seconds for each announcement.")
  var timeout: Double = 10
  @OptionGroup var options: GrapeToolOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      guard !delimiter.isEmpty else { throw CommandFailure(.usage, "--delimiter is empty.") }
      let timeout = try duration(timeout)
      let form = json ? ServiceLine.Form.json : .delimited(delimiter)
      // Mistakes in words are found before anything is done.
      let words = try services.map { word in
        do { return try ServiceLine(word, form) } catch let failure as CommandFailure {
          throw CommandFailure(.usage, failure.description)
        }
      }
      let logger = try options.grapes.logging.logger("grenache")
      let link = try await options.link()
      let announcer = Announcer(
        link: link, timeout: timeout, delimiter: json ? nil : delimiter,
        progress: TerminalProgress(isWanted: !json))
      let announcing = Announcing(announcer: announcer, words: words, form: form)
      if keep {
        try await runServices([link, KeptAnnouncements(announcing: announcing)], logger: logger)
      } else if let exit = try await announcing.run(keeping: nil) {
        throw ExitCode(exit.rawValue)
      }
      await link.close()
    }
  }
}

/// Announces words, or the lines of standard input as they come.
private struct Announcing: Sendable {
  let announcer: Announcer
  let words: [ServiceLine]
  let form: ServiceLine.Form

  /// - Parameter kept: gets what is to be announced again and again.
  /// - Returns: what the process ends with, if not with 0: why the last one could not be announced.
  /// - Throws: `InputLines.Failure` when the input cannot be read.
  func run(keeping kept: AsyncStream<ServiceLine>.Continuation?) async throws -> CommandExit? {
    var announcer = announcer
    announcer.kept = kept
    if words.isEmpty {
      try await announceInput(&announcer)
    } else {
      for word in words { await announcer.announce { word } }
    }
    announcer.progress.clear()
    return announcer.exit
  }

  private func announceInput(_ announcer: inout Announcer) async throws(InputLines.Failure) {
    var lines = InputLines().makeAsyncIterator()
    while true {
      do throws(InputLines.Failure) {
        guard let line = try await lines.next() else { return }
        guard let text = ServiceLine.content(of: line, form) else { continue }
        await announcer.announce { try ServiceLine(text, form) }
      } catch {
        // The line behind it may be a good one.
        if case .notReadable = error.code { throw error }
        announcer.passOver(error, .data)
      }
    }
  }
}

/// Announces one service after the other and keeps count.
private struct Announcer: Sendable {
  let link: Link
  let timeout: Duration
  /// `nil` prints JSON lines.
  let delimiter: String?
  let progress: TerminalProgress
  /// Gets what is to be announced again and again.
  var kept: AsyncStream<ServiceLine>.Continuation?
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
    let service: ServiceLine
    do { service = try line() } catch { return passOver(error, .data) }
    progress.show("announcing \(service.service), \(announced) announced")
    do throws(GrenacheError) {
      let stored = try await link.announce(service.service, port: service.port, within: timeout)
      show(service, stored)
      take(service)
    } catch {
      passOver(error, commandExit(for: error))
      // Where nobody has said no, a grape that comes back may say yes.
      if kept != nil, error.isRetryable || error.code == .deadlineExceeded { take(service) }
    }
  }

  private mutating func take(_ service: ServiceLine) {
    announced += 1
    kept?.yield(service)
  }

  private func show(_ line: ServiceLine, _ stored: Int) {
    progress.clear()
    if let delimiter {
      printLine("\(line.service)\(delimiter)\(line.port) stored on \(stored)")
    } else {
      printLine(
        JSONLine.object(["service": line.service, "port": Int(line.port), "stored": stored]))
    }
  }

  /// Tells what could not be announced.
  mutating func passOver(_ error: any Error, _ exit: CommandExit) {
    progress.clear()
    printError("error: \(error)")
    failure = exit
  }
}

/// What is announced again and again until the shutdown, and withdrawn then.
private struct KeptAnnouncements: Service {
  let announcing: Announcing

  func run() async throws {
    let (lines, kept) = AsyncStream.makeStream(of: ServiceLine.self)
    let announcing = announcing
    let exit = try await withThrowingTaskGroup(of: CommandExit?.self) { group in
      group.addTask {
        defer { kept.finish() }
        // Nobody waits for more input then.
        return try await cancelWhenGracefulShutdown { try await announcing.run(keeping: kept) }
      }
      for await line in lines {
        group.addTask {
          await keep(line)
          return nil
        }
      }
      return try await group.reduce(into: nil) { $0 = $0 ?? $1 }
    }
    // A service that ends by itself would end the others as if it had failed.
    if let exit, !Task.isShuttingDownGracefully { throw ExitCode(exit.rawValue) }
  }

  private func keep(_ line: ServiceLine) async {
    let link = announcing.announcer.link
    await cancelWhenGracefulShutdown {
      await link.keepAnnouncing(line.service, port: line.port)
    }
    do throws(GrenacheError) {
      try await link.withdraw(line.service, port: line.port, within: .seconds(2))
    } catch {
      printError("warning: \(line.service.quotedForLog()) is not withdrawn: \(error)")
    }
  }
}
