public import ArgumentParser
internal import GrenacheTransport
public import Logging
public import ServiceLifecycle
internal import UnixSignals

/// The logging options of every command; logs go to standard error.
public struct LoggingOptions: ParsableArguments, Sendable {
  /// From which level on.
  @Option(
    help: "Log from this level on: trace, debug, info, notice, warning, error, critical.",
    completion: .list(Logger.Level.allCases.map(\.rawValue)))
  public var logLevel: String = "info"

  /// As ArgumentParser wants it.
  public init() {}

  /// A logger on standard error.
  public func logger(_ label: String) throws -> Logger {
    guard let level = Logger.Level(rawValue: logLevel.lowercased()) else {
      throw CommandFailure(.usage, "--log-level: \(logLevel) is no level.")
    }
    var logger = Logger(label: label) { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = level
    return logger
  }
}

/// Has all certificates loaded again at SIGHUP.
private struct ReloadAtHangUp: Service {
  let signals: UnixSignalsSequence

  func run() async throws {
    for await _ in signals.cancelOnGracefulShutdown() { Reload.requestAll() }
  }
}

/// Runs services until one ends, or SIGTERM or SIGINT asks them to; SIGHUP has them load their
/// certificates again.
public func runServices(_ services: [any Service], logger: Logger) async throws {
  var quiet = logger
  quiet.logLevel = max(logger.logLevel, .notice)
  // Before any of them says that it is there: until then the signal ends the process.
  let hangUps = ReloadAtHangUp(signals: await UnixSignalsSequence(trapping: [.sighup]))
  let group = ServiceGroup(
    services: services + [hangUps], gracefulShutdownSignals: [.sigterm, .sigint],
    logger: quiet)
  try await group.run()
}
