package import Logging
internal import Synchronization

/// For what a test does not look at.
package let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Keeps what is logged, from a level on.
package final class LogRecorder: Sendable {
  package struct Line: Sendable {
    package var level: Logger.Level
    package var message: String
    package var metadata: Logger.Metadata
  }

  private let recorded = Mutex<[Line]>([])
  private let level: Logger.Level

  package init(_ level: Logger.Level = .trace) { self.level = level }

  package var logger: Logger {
    var logger = Logger(label: "test") { _ in Handler(recorder: self) }
    logger.logLevel = level
    return logger
  }

  package var lines: [Line] { recorded.withLock { $0 } }

  /// The lines as a person reads them, their metadata by name.
  package var texts: [String] {
    lines.map { line in
      let metadata = line.metadata.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
      return "\(line.level) \(line.message) \(metadata.joined(separator: " "))"
    }
  }

  /// The messages of warnings.
  package var warnings: [String] {
    Set(lines.filter { $0.level == .warning }.map(\.message)).sorted()
  }

  /// The metadata of each line with that message.
  package func lines(_ message: String) -> [Logger.Metadata] {
    lines.filter { $0.message == message }.map(\.metadata)
  }

  /// How often a message has been logged.
  package func count(of message: String) -> Int { lines(message).count }

  /// At which level a message has been logged, if it has.
  package func level(of message: String) -> Logger.Level? {
    lines.last { $0.message == message }?.level
  }

  private struct Handler: LogHandler {
    let recorder: LogRecorder
    var logLevel = Logger.Level.trace
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let line = Line(
        level: event.level, message: event.message.description, metadata: event.metadata ?? [:])
      recorder.recorded.withLock { $0.append(line) }
    }
  }
}
