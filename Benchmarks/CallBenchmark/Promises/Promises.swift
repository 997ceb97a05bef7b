import ArgumentParser
import Foundation

/// The figures that peers promise, measured; fails with any that does not hold.
struct Promises: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure what is promised of calls and publishers; all of it, or what is named.")

  @Argument(help: "P28, P32, P33, P34, P36, P37, P38, P39, P40.")
  var names: [String] = []

  func run() async throws {
    let all: [(String, () async throws -> Bool)] = [
      ("P28", Deaths.killedWorker), ("P32", Deadlines.kept), ("P33", Deadlines.cancellation),
      ("P34", Deaths.retries), ("P36", SlowSubscriber.measure), ("P37", Comebacks.measure),
      ("P38", StreamBesideCalls.measure), ("P39", Deaths.rollingRestart), ("P40", Leaks.measure),
    ]
    if let unknown = names.first(where: { name in !all.contains { $0.0 == name } }) {
      throw ValidationError("\(unknown) is none of \(all.map(\.0).joined(separator: ", ")).")
    }
    let stolen = StolenTime()
    var failed: [String] = []
    for (name, measure) in all where names.isEmpty || names.contains(name) {
      if try await !measure() { failed.append(name) }
    }
    print(stolen.summary)
    guard failed.isEmpty else {
      print("not kept: \(failed.joined(separator: ", "))")
      throw ExitCode.failure
    }
  }

  /// Prints a line at once, whatever standard output is.
  static func show(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
  }
}
