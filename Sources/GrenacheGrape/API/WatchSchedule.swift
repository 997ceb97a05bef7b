internal import GrenacheIO

/// When which of the watched keys are looked up: each twice a second, spread over that time, and after a
/// change at once unless it was looked up a moment ago; only so many at a time.
struct WatchSchedule {
  /// How often a key is looked up.
  static let interval = Duration.milliseconds(500)
  /// Between two lookups of one key, whatever happens: a service that comes and goes as fast as it can
  /// costs all who watch it no more than this.
  static let pause = Duration.milliseconds(250)
  /// How often it is seen what is due.
  static let tick = Duration.milliseconds(50)
  /// Lookups under way at once, each with some queries: all queries together have a limit, too.
  static let lookupsMax = 64

  private struct Key {
    var lastStart: MonotonicTime?
    var isLookingUp = false
    var hasChanged = false
  }
  private var keys: [[UInt8]: Key] = [:]
  private(set) var lookupsUnderWay = 0

  var isEmpty: Bool { keys.isEmpty }

  mutating func add(_ key: [UInt8]) {
    if keys[key] == nil { keys[key] = Key() }
  }

  mutating func remove(_ key: [UInt8]) {
    keys[key] = nil
  }

  /// This grape has stored something of a key, or forgotten it.
  mutating func changed(_ key: [UInt8]) {
    keys[key]?.hasChanged = true
  }

  /// The keys whose lookups begin now, those first that have waited longest, and whether this grape
  /// itself saw them change.
  mutating func start(at now: MonotonicTime) -> [(key: [UInt8], hasChanged: Bool)] {
    let room = Self.lookupsMax - lookupsUnderWay
    guard room > 0 else { return [] }
    var due: [(key: [UInt8], hasChanged: Bool, since: MonotonicTime)] = []
    for (key, state) in keys where !state.isLookingUp {
      let since = state.lastStart ?? MonotonicTime(nanoseconds: 0)
      let pause = state.hasChanged ? Self.pause : Self.interval
      if state.lastStart == nil || now - since >= pause {
        due.append((key, state.hasChanged, since))
      }
    }
    // What has changed is news to somebody.
    due.sort { ($0.hasChanged ? 0 : 1, $0.since) < ($1.hasChanged ? 0 : 1, $1.since) }
    let started = due.prefix(room)
    for one in started {
      keys[one.key] = Key(lastStart: now, isLookingUp: true)
    }
    lookupsUnderWay += started.count
    return started.map { ($0.key, $0.hasChanged) }
  }

  /// A lookup is over.
  mutating func ended(_ key: [UInt8]) {
    lookupsUnderWay -= 1
    keys[key]?.isLookingUp = false
  }
}
