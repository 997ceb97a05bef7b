internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTransport

/// Who watches which keys of a grape. Confined to the loop of the DHT.
///
/// The first list is told as soon as somebody is found, and an empty one when everybody was asked. What
/// this grape stores is told at once; what others store is looked up again every half a second.
/// Nodes may answer with different parts of many peers, so a peer is gone only when two lookups in a row
/// miss it, or when this grape itself saw it go.
final class GrapeWatches: LoopTimerTarget, DHTDriverObserver {
  /// One connection. What it is told arrives in the order in which it was sent: the tasks that carry it
  /// begin on the loop that sends, one after the other, and so do those in the other direction.
  struct Watcher: Sendable {
    let number: UInt64
    /// Whose it is, for the limit.
    let caller: GrapeCaller
    let watch: LoopBound<GrapeWatch>
  }
  private struct Key {
    var watchers: [Watcher] = []
    var told: Set<DHTAddress>?
    /// Peers that the last lookup has missed.
    var missed: Set<DHTAddress> = []
  }

  /// Keys that are watched at a grape, and by one caller; more are not.
  static let keysMax = 1_000
  static let keysPerCallerMax = 250

  private let driver: DHTDriver
  private let answers: LookupAnswers
  private var keys: [[UInt8]: Key] = [:]
  private var keysByWatcher: [UInt64: Set<[UInt8]>] = [:]
  private var countByCaller: [GrapeCaller: Int] = [:]
  private var schedule = WatchSchedule()
  private var isStopped = false
  private lazy var timer = TargetTimer(self)

  /// Hears of changes from `driver`, and has `answers` forget what was known of a key then.
  init(_ driver: DHTDriver, _ answers: LookupAnswers) {
    self.driver = driver
    self.answers = answers
    driver.observer = self
  }

  func add(_ watcher: Watcher, to key: [UInt8], on loop: isolated EventLoop) {
    guard !isStopped, keysByWatcher[watcher.number]?.contains(key) != true else { return }
    guard keys[key] != nil || keys.count < Self.keysMax,
      (countByCaller[watcher.caller] ?? 0) < Self.keysPerCallerMax
    else {
      Task { await Self.refuse(key, watcher, on: loop) }
      return
    }
    keys[key, default: Key()].watchers.append(watcher)
    keysByWatcher[watcher.number, default: []].insert(key)
    countByCaller[watcher.caller, default: 0] += 1
    schedule.add(key)
    if let told = keys[key]?.told { send(key, told, to: [watcher], on: loop) }
    lookUpWhatIsDue(on: loop)
  }

  /// Ends what a connection watches: those keys, or by default all of them.
  func remove(_ watcher: Watcher, from some: Set<[UInt8]>? = nil) {
    guard let watched = keysByWatcher[watcher.number] else { return }
    let gone = some.map(watched.intersection) ?? watched
    for key in gone {
      keys[key]?.watchers.removeAll { $0.number == watcher.number }
      guard keys[key]?.watchers.isEmpty == true else { continue }
      keys[key] = nil
      schedule.remove(key)
    }
    let left = watched.subtracting(gone)
    keysByWatcher[watcher.number] = left.isEmpty ? nil : left
    let count = (countByCaller[watcher.caller] ?? 0) - gone.count
    countByCaller[watcher.caller] = count > 0 ? count : nil
  }

  /// This grape has stored something of a key, or forgotten it.
  func peersChanged(_ key: [UInt8], on loop: isolated EventLoop) {
    answers.change(key)
    guard keys[key] != nil else { return }
    schedule.changed(key)
    lookUpWhatIsDue(on: loop)
  }

  func stop(on loop: isolated EventLoop) {
    isStopped = true
    loop.core.cancel(timer)
    keys = [:]
    schedule = WatchSchedule()
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    lookUpWhatIsDue(on: loop)
  }

  private func lookUpWhatIsDue(on loop: isolated EventLoop) {
    guard !isStopped, !schedule.isEmpty else { return }
    for (key, hasChanged) in schedule.start(at: .now()) {
      Task { await self.lookUpAndTell(key, hasChanged, on: loop) }
    }
    if !timer.isArmed { loop.core.arm(timer, after: WatchSchedule.tick) }
  }

  private func lookUpAndTell(
    _ key: [UInt8], _ sawChange: Bool, on loop: isolated EventLoop
  ) async {
    var found: PeersFound?
    if keys[key]?.told == nil {
      found = PeersFound { peers in self.tellFirst(peers, key, on: loop) }
    }
    let result = await driver.lookUp(key, by: .now() + .seconds(2), found: found, on: loop)
    guard !isStopped else { return }
    schedule.ended(key)
    guard let result, keys[key] != nil else { return }
    tell(result, key, sawChange, on: loop)
  }

  /// Whoever has heard nothing yet of a key does not wait for the rest of them.
  private func tellFirst(_ peers: [DHTAddress], _ key: [UInt8], on loop: isolated EventLoop) {
    guard !isStopped, let state = keys[key], state.told == nil else { return }
    keys[key]?.told = Set(peers)
    send(key, Set(peers), to: state.watchers, on: loop)
  }

  private func tell(
    _ result: DHTLookupResult, _ key: [UInt8], _ sawChange: Bool, on loop: isolated EventLoop
  ) {
    guard let state = keys[key] else { return }
    let told = state.told ?? []
    let found = Set(result.peers)
    var peers = told.union(found)
    // What was not asked for everywhere is not gone.
    if !result.isIncomplete {
      let missed = told.subtracting(found)
      peers.subtract(sawChange ? missed : missed.intersection(state.missed))
      keys[key]?.missed = missed
    }
    guard peers != told || state.told == nil && !result.isIncomplete else { return }
    keys[key]?.told = peers
    send(key, peers, to: state.watchers, on: loop)
  }

  private func send(
    _ key: [UInt8], _ peers: Set<DHTAddress>, to watchers: [Watcher], on loop: isolated EventLoop
  ) {
    let name = GrapeValue.quoted(String(decoding: key, as: UTF8.self))
    let list = peers.sorted().map { "\"\($0)\"" }.joined(separator: ",")
    let message = Array("{\"key\":\(name),\"peers\":[\(list)]}".utf8)
    for watcher in watchers { Task { await Self.send(key, message, watcher, on: loop) } }
  }

  private static func send(
    _ key: [UInt8], _ message: [UInt8], _ watcher: Watcher, on loop: isolated EventLoop
  ) async {
    let watch = watcher.watch
    await watch.loop.run { loop in watch.get(on: loop).tell(key, message, on: loop) }
  }

  private static func refuse(
    _ key: [UInt8], _ watcher: Watcher, on loop: isolated EventLoop
  ) async {
    let watch = watcher.watch
    await watch.loop.run { loop in watch.get(on: loop).refused(key, on: loop) }
  }
}
