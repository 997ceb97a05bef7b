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
    /// Where it was.
    var port: UInt16?
    var wasKilled = false
  }
  private let state = Mutex<[String: Run]>([:])

  /// Takes a line of a publisher: the name of the run and a number, or "place", the name and the port.
  func note(_ line: String) {
    let parts = line.split(separator: " ")
    guard let number = parts.last.flatMap({ Int($0) }), parts.count > 1 else { return }
    let name = String(parts[parts.count - 2])
    let now = ContinuousClock.now
    state.withLock { runs in
      var run = runs[name] ?? Run(last: 0, began: now, lastAt: now)
      if parts[0] == "place" {
        run.port = UInt16(number)
      } else {
        if run.last == 0 { run.began = now }
        run.last = number
        run.lastAt = now
      }
      runs[name] = run
    }
  }

  /// Who is there now is going to be killed.
  func noteKill(at port: UInt16) {
    state.withLock { runs in
      let last = runs.filter { $0.value.port == port }.max { $0.value.began < $1.value.began }
      if let name = last?.key { runs[name]?.wasKilled = true }
    }
  }

  /// Runs that have published something within the last two seconds.
  var live: [String: Run] {
    let now = ContinuousClock.now
    return runs.filter { $0.value.last > 0 && now - $0.value.lastAt < .seconds(2) }
  }

  func last(of run: String) -> Int { state.withLock { $0[run]?.last ?? 0 } }

  var runs: [String: Run] { state.withLock { $0 } }

  var all: Int { state.withLock { $0.values.reduce(0) { $0 + $1.last } } }
}
