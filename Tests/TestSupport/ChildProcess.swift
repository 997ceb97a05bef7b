package import Foundation
internal import Glibc
internal import Synchronization

/// A process that a test has started. Signals reach it as long as it runs, and nobody else.
package final class ChildProcess: Sendable {
  /// How long a process may take to end once it is asked to: longer than any shutdown.
  package static let endTimeMax = Duration.seconds(60)

  package let identifier: Int32
  private let process: Mutex<Process>

  /// Takes a process that runs.
  package init(_ process: sending Process) {
    identifier = process.processIdentifier
    self.process = Mutex(process)
  }

  package var isRunning: Bool { process.withLock { $0.isRunning } }

  package func signal(_ number: Int32) {
    process.withLock { if $0.isRunning { _ = Glibc.kill(identifier, number) } }
  }

  /// Waits for its end; a task that is cancelled meanwhile, as a test's is at its time limit, kills it.
  ///
  /// - Returns: its exit status, or the number of the signal that has ended it.
  package func end() async -> Int32 {
    while isRunning, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(2)) }
    if Task.isCancelled { signal(SIGKILL) }
    return waitUntilExit()
  }

  /// Asks it to end and waits until it has; kills it when it takes too long, or the task is cancelled.
  package func terminate() async -> Int32 {
    signal(SIGTERM)
    let last = Task { [self] in
      try await Task.sleep(for: Self.endTimeMax)
      signal(SIGKILL)
    }
    defer { last.cancel() }
    return await end()
  }

  /// Ends it as `kill -9` does, and waits until it has ended.
  @discardableResult
  package func kill() -> Int32 {
    signal(SIGKILL)
    return waitUntilExit()
  }

  /// Asks it to end, and sees to it on a thread of its own that it does, for those who cannot wait.
  package func dismiss() {
    guard isRunning else { return }
    signal(SIGTERM)
    Thread.detachNewThread { [self] in
      for _ in 0..<1_000 where isRunning { usleep(10_000) }
      signal(SIGKILL)
    }
  }

  /// Of a process that ends for certain.
  private func waitUntilExit() -> Int32 {
    process.withLock { process in
      process.waitUntilExit()
      return process.terminationStatus
    }
  }
}
