import Foundation
import Synchronization

/// Says on standard error what happens when, for somebody who wants to know what held calls up.
struct SoakLog: Sendable {
  private let start = ContinuousClock.now
  private let isOn: Bool

  init(isOn: Bool) { self.isOn = isOn }

  func callAsFunction(_ line: @autoclosure () -> String, at time: ContinuousClock.Instant = .now) {
    guard isOn else { return }
    let text = String(format: "%9.3f s  %@\n", (time - start) / .seconds(1), line())
    FileHandle.standardError.write(Data(text.utf8))
  }
}

/// How long the machine does not let this process run at a time: a thread that does nothing but sleep for
/// 5 ms tells how late it wakes. A call that took that long says nothing of this package.
final class MachinePauses: Sendable {
  private let state = Mutex((longest: Duration.zero, isOver: false))

  init(log: SoakLog) {
    Thread.detachNewThread { [self] in
      while !state.withLock({ $0.isOver }) {
        let due = ContinuousClock.now + .milliseconds(5)
        Thread.sleep(forTimeInterval: 0.005)
        let late = ContinuousClock.now - due
        if late > .milliseconds(100) {
          log("the machine paused \(late / .milliseconds(1)) ms", at: due)
        }
        state.withLock { $0.longest = max($0.longest, late) }
      }
    }
  }

  /// Ends it.
  ///
  /// - Returns: the longest one.
  func end() -> Duration {
    state.withLock { state in
      state.isOver = true
      return state.longest
    }
  }
}
