/// What a test waited for has not come about.
package struct NeverCameAbout: Error, CustomStringConvertible {
  package let description: String
}

/// Waits until `condition` holds, and looks again every few milliseconds: for what nothing tells of.
///
/// - Parameter what: what is waited for.
/// - Throws: `NeverCameAbout`, which names the place, when it does not within `time`, or when the task is
///   cancelled before, as a test's is at its time limit; what `condition` throws.
package func eventually(
  _ what: String = "it", within time: Duration = .seconds(60), file: String = #fileID,
  line: Int = #line,
  _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + time
  while try await !condition() {
    guard ContinuousClock.now < deadline else {
      throw NeverCameAbout(
        description: "\(file):\(line): \(what) did not come about within \(time)")
    }
    do {
      try await Task.sleep(for: .milliseconds(2))
    } catch {
      throw NeverCameAbout(
        description: "\(file):\(line): \(what) had not come about when the test was ended")
    }
  }
}

/// Waits until the task is cancelled: what a handler does that is not to answer.
///
/// It is no sleep: a cancelled one keeps its timer, and memory for it, until it would have ended.
package func untilCancelled() async {
  for await _ in AsyncStream<Never>.makeStream().stream {}
}
