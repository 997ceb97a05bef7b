internal import GrenacheDHT
internal import GrenacheIO
internal import Synchronization

/// What lookups have found lately, for all loops: an answer from here does not ask the DHT's loop.
final class LookupAnswers: Sendable {
  /// How long peers, and the lack of any, are given again: as the node itself does.
  static let age = Duration.seconds(1)
  static let negativeAge = Duration.milliseconds(250)
  /// Counters of changes.
  static let countersMax = 4_096
  /// Keys that are remembered, and what they and their peers take, about.
  static let keysMax = 5_000
  static let bytesMax = 16 << 20
  /// How often what has expired is dropped.
  static let sweepInterval = Duration.milliseconds(250)

  private struct Entry {
    let peers: FoundPeers
    let expiry: MonotonicTime
  }
  private struct State {
    private(set) var entries: [[UInt8]: Entry] = [:]
    private(set) var bytes = 0
    var nextSweep = MonotonicTime(nanoseconds: 0)
    /// Goes up when a key changes, so that a lookup that began before is not kept. Keys share these by
    /// chance: whoever changes one again and again spoils few others.
    var changes = [UInt64](repeating: 0, count: LookupAnswers.countersMax)

    mutating func set(_ entry: Entry?, of key: [UInt8]) {
      if let old = entries[key] { bytes -= key.count + old.peers.bytes }
      if let entry { bytes += key.count + entry.peers.bytes }
      entries[key] = entry
    }

    mutating func removeExpired(at now: MonotonicTime) {
      entries = entries.filter { $0.value.expiry > now }
      bytes = entries.reduce(0) { $0 + $1.key.count + $1.value.peers.bytes }
    }
  }
  private let state = Mutex(State())

  /// What is kept, about.
  var bytes: Int { state.withLock { $0.bytes } }

  /// What is known of a key, and what to give to `keep` with what is found otherwise.
  func peers(of key: [UInt8]) -> (peers: FoundPeers?, changes: UInt64) {
    let now = MonotonicTime.now()
    return state.withLock { state in
      guard let entry = state.entries[key], entry.expiry > now else {
        return (nil, state.changes[Self.counter(of: key)])
      }
      return (entry.peers, state.changes[Self.counter(of: key)])
    }
  }

  /// Keeps what a lookup has found for a moment, unless something is missing, or the node remembered it
  /// itself: it would be given for twice as long.
  func keep(_ found: GrapeLookup, of key: [UInt8], since changes: UInt64) {
    guard !found.result.isIncomplete, !found.result.isCached else { return }
    let now = MonotonicTime.now()
    let peers = found.peers
    let entry = Entry(peers: peers, expiry: now + (peers.isEmpty ? Self.negativeAge : Self.age))
    state.withLock { state in
      guard state.changes[Self.counter(of: key)] == changes else { return }
      if now >= state.nextSweep {
        state.nextSweep = now + Self.sweepInterval
        state.removeExpired(at: now)
      }
      state.set(nil, of: key)
      guard state.entries.count < Self.keysMax,
        state.bytes + key.count + peers.bytes <= Self.bytesMax
      else { return }
      state.set(entry, of: key)
    }
  }

  /// Something about a key has changed.
  func change(_ key: [UInt8]) {
    state.withLock { state in
      state.changes[Self.counter(of: key)] &+= 1
      state.set(nil, of: key)
    }
  }

  /// Hashes are seeded anew in each process: nobody chooses whose counter he shares.
  private static func counter(of key: [UInt8]) -> Int {
    Int(UInt(bitPattern: key.hashValue) % UInt(countersMax))
  }
}
