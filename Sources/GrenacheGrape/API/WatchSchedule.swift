internal import GrenacheIO

/// When which of the watched keys are looked up: those that somebody announces more than once in two
/// seconds, the others ever more rarely, and what has changed at once unless it was looked up a moment
/// ago; only so many at a time and a second, in turn for all who watch something.
struct WatchSchedule {
  /// How a lookup has ended.
  enum Outcome {
    /// Somebody is there.
    case found
    case nobody
    /// The next one decides whether somebody is gone.
    case uncertain
    /// It has told nothing.
    case failed
  }

  /// Between two lookups of one key, whatever happens: a service that comes and goes as fast as it can
  /// costs all who watch it no more than this.
  static let pause = Duration.milliseconds(250)
  /// How often a key is looked up that somebody announces: with the pause before a second lookup, what
  /// is gone is known within two seconds (P27).
  static let interval = Duration.milliseconds(1_250)
  /// The same of one that nobody announces: longer and longer.
  static let idleIntervalMin = Duration.milliseconds(500)
  static let idleIntervalMax = Duration.seconds(8)
  /// How often it is seen what is due.
  static let tick = Duration.milliseconds(50)
  /// Lookups under way at once, each with some queries: all queries together have a limit, too.
  static let lookupsMax = 64
  /// Lookups a second: as many as 250 keys in use need, which is what one caller may watch.
  static let lookupsPerSecond = 200

  private struct Key {
    /// Who has its lookups in his share: of those who watch it, one who has few.
    var owner: GrapeCaller
    var lastStart: MonotonicTime?
    var interval = WatchSchedule.idleIntervalMin
    var isLookingUp = false
    var hasChanged = false

    /// Whether it is to be looked up, and since when it is waiting.
    func due(at now: MonotonicTime) -> MonotonicTime? {
      guard !isLookingUp else { return nil }
      guard let lastStart else { return MonotonicTime(nanoseconds: 0) }
      let pause = hasChanged ? WatchSchedule.pause : interval
      return now - lastStart >= pause ? lastStart : nil
    }
  }
  private struct Owner {
    var keyCount = 0
    /// When its turn was last: whoever waits longest is next.
    var lastTurn: UInt64 = 0
  }
  private var keys: [[UInt8]: Key] = [:]
  private var owners: [GrapeCaller: Owner] = [:]
  private var turns: UInt64 = 0
  private(set) var lookupsUnderWay = 0
  /// Lookups that may begin.
  private var allowance = Double(lookupsMax)
  private var filledAt: MonotonicTime?

  var isEmpty: Bool { keys.isEmpty }

  /// Somebody watches a key.
  mutating func add(_ key: [UInt8], for caller: GrapeCaller) {
    guard let known = keys[key] else {
      keys[key] = Key(owner: caller)
      owners[caller, default: Owner()].keyCount += 1
      return
    }
    // What was found is old: who is new wants to know.
    keys[key]?.interval = min(known.interval, Self.interval)
    if count(of: caller) < count(of: known.owner) - 1 { give(key, to: caller) }
  }

  /// Somebody watches a key no more; `others` do, if there are any.
  mutating func remove(_ key: [UInt8], others: [GrapeCaller] = []) {
    guard let known = keys[key] else { return }
    guard let next = others.min(by: { count(of: $0) < count(of: $1) }) else {
      release(known.owner)
      keys[key] = nil
      return
    }
    if !others.contains(known.owner) { give(key, to: next) }
  }

  /// This grape has stored something of a key, or forgotten it.
  mutating func changed(_ key: [UInt8]) {
    keys[key]?.hasChanged = true
  }

  /// The keys whose lookups begin now: of each who watches something one after the other, of his first
  /// what has changed, then what has waited longest.
  mutating func start(at now: MonotonicTime) -> [[UInt8]] {
    refill(at: now)
    let room = min(Self.lookupsMax - lookupsUnderWay, Int(allowance))
    guard room > 0 else { return [] }
    var queues = due(at: now)
    var started: [[UInt8]] = []
    while !queues.isEmpty {
      for index in queues.indices {
        guard started.count < room, let key = queues[index].keys.popLast() else { break }
        turns += 1
        owners[queues[index].owner]?.lastTurn = turns
        keys[key]?.lastStart = now
        keys[key]?.isLookingUp = true
        keys[key]?.hasChanged = false
        started.append(key)
      }
      guard started.count < room else { break }
      queues.removeAll(where: \.keys.isEmpty)
    }
    lookupsUnderWay += started.count
    allowance -= Double(started.count)
    return started
  }

  /// A lookup is over.
  mutating func ended(_ key: [UInt8], _ outcome: Outcome) {
    lookupsUnderWay -= 1
    guard let known = keys[key] else { return }
    keys[key]?.isLookingUp = false
    switch outcome {
    case .found: keys[key]?.interval = Self.interval
    case .uncertain: keys[key]?.interval = Self.pause
    case .nobody:
      let next = max(Self.idleIntervalMin, known.interval * 2)
      keys[key]?.interval = min(next, Self.idleIntervalMax)
    case .failed: break
    }
  }

  // MARK: Pieces

  private mutating func refill(at now: MonotonicTime) {
    if let filledAt {
      let elapsed = (now - filledAt).milliseconds / 1_000
      allowance += max(0, elapsed) * Double(Self.lookupsPerSecond)
    }
    allowance = min(allowance, Double(Self.lookupsMax))
    filledAt = now
  }

  /// What is due of each owner, the next one last; the owners in their turn.
  private func due(at now: MonotonicTime) -> [(owner: GrapeCaller, keys: [[UInt8]])] {
    var due: [GrapeCaller: [(key: [UInt8], isChange: Bool, since: MonotonicTime)]] = [:]
    for (key, state) in keys {
      guard let since = state.due(at: now) else { continue }
      due[state.owner, default: []].append((key, state.hasChanged, since))
    }
    let inTurn = due.sorted { (owners[$0.key]?.lastTurn ?? 0) < (owners[$1.key]?.lastTurn ?? 0) }
    return inTurn.map { owner, keys in
      let last = keys.sorted { ($0.isChange ? 0 : 1, $0.since) > ($1.isChange ? 0 : 1, $1.since) }
      return (owner, last.map(\.key))
    }
  }

  private func count(of caller: GrapeCaller) -> Int { owners[caller]?.keyCount ?? 0 }

  private mutating func give(_ key: [UInt8], to caller: GrapeCaller) {
    guard let old = keys[key]?.owner, old != caller else { return }
    release(old)
    keys[key]?.owner = caller
    owners[caller, default: Owner()].keyCount += 1
  }

  private mutating func release(_ owner: GrapeCaller) {
    owners[owner]?.keyCount -= 1
    if count(of: owner) <= 0 { owners[owner] = nil }
  }
}
