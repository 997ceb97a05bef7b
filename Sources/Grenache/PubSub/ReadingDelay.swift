package import GrenacheIO

/// Whether what a subscriber reads of a publisher may have been said some time ago: it had no room for a
/// while, and what was said meanwhile waits in the system's buffers.
package struct ReadingDelay: Hashable, Sendable {
  /// Who has been reading for as long, without a rest, reads what is said now: what two systems' buffers
  /// held has been taken by then.
  package static let catchUpTime = Duration.seconds(10)

  private enum State: Hashable { case reading, resting, readingSince(MonotonicTime) }
  private var state = State.reading

  package init() {}

  package mutating func paused() { state = .resting }

  package mutating func resumed(at now: MonotonicTime) { state = .readingSince(now) }

  package func isLate(at now: MonotonicTime) -> Bool {
    switch state {
    case .reading: false
    case .resting: true
    case .readingSince(let start): now - start < Self.catchUpTime
    }
  }
}
