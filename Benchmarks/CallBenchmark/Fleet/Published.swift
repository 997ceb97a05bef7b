import Synchronization

/// What publishers have published, run by run, as they themselves have said.
final class Published: Sendable {
  /// One run of a publisher.
  struct Run: Sendable {
    /// The number of its last message.
    var last: Int
    /// When it has said that its first one is published, and this one.
    var began: ContinuousClock.Instant
    var lastAt: ContinuousClock.Instant
  }
  private let state = Mutex<[String: Run]>([:])

  /// Takes a line of a publisher: the name of the run and a number.
  func note(_ line: String) {
    let parts = line.split(separator: " ")
    guard parts.count == 2, let number = Int(parts[1]) else { return }
    let now = ContinuousClock.now
    state.withLock { runs in
      runs[String(parts[0]), default: Run(last: 0, began: now, lastAt: now)].last = number
      runs[String(parts[0])]?.lastAt = now
    }
  }

  func last(of run: String) -> Int { state.withLock { $0[run]?.last ?? 0 } }

  var runs: [String: Run] { state.withLock { $0 } }

  var all: Int { state.withLock { $0.values.reduce(0) { $0 + $1.last } } }
}
