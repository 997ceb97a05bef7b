internal import GrenacheIO
internal import Synchronization

/// What lookups have found lately, for all loops: an answer from here does not ask the DHT's loop.
final class LookupAnswers: Sendable {
  /// How long peers, and the lack of any, are given again: as the node itself does.
  static let age = Duration.seconds(1)
  static let negativeAge = Duration.milliseconds(250)
  /// Counters of changes.
  static let countersMax = 4_096
  /// Keys that are remembered.
  static let keysMax = 5_000
  /// How often, when there are so many, it is looked for those that have expired.
  static let sweepInterval = Duration.milliseconds(100)

  private struct Entry {
    let peers: [String]
    let expiry: MonotonicTime
  }
  private struct State {
    var entries: [[UInt8]: Entry] = [:]
    var nextSweep = MonotonicTime(nanoseconds: 0)
    /// Goes up when a key changes, so that a lookup that began before is not kept. Keys share these by
    /// chance: whoever changes one again and again spoils few others.
    var changes = [UInt64](repeating: 0, count: LookupAnswers.countersMax)
  }
  private let state = Mutex(State())

  /// What is known of a key, and what to give to `keep` with what is found otherwise.
  func peers(of key: [UInt8]) -> (peers: [String]?, changes: UInt64) {
    let now = MonotonicTime.now()
    return state.withLock { state in
      guard let entry = state.entries[key], entry.expiry > now else {
        return (nil, state.changes[Self.counter(of: key)])
      }
      return (entry.peers, state.changes[Self.counter(of: key)])
    }
  }

  func keep(_ peers: [String], of key: [UInt8], since changes: UInt64) {
    let now = MonotonicTime.now()
    let age = peers.isEmpty ? Self.negativeAge : Self.age
    state.withLock { state in
      guard state.changes[Self.counter(of: key)] == changes else { return }
      if state.entries.count >= Self.keysMax, state.entries[key] == nil {
        guard now >= state.nextSweep else { return }
        state.nextSweep = now + Self.sweepInterval
        state.entries = state.entries.filter { $0.value.expiry > now }
        guard state.entries.count < Self.keysMax else { return }
      }
      state.entries[key] = Entry(peers: peers, expiry: now + age)
    }
  }

  /// Something about a key has changed.
  func change(_ key: [UInt8]) {
    state.withLock { state in
      state.changes[Self.counter(of: key)] &+= 1
      state.entries[key] = nil
    }
  }

  /// Hashes are seeded anew in each process: nobody chooses whose counter he shares.
  private static func counter(of key: [UInt8]) -> Int {
    Int(UInt(bitPattern: key.hashValue) % UInt(countersMax))
  }
}
