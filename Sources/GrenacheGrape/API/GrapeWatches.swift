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
    /// How it sees this host.
    let view: HostView
    let watch: LoopBound<GrapeWatch>
  }
  private struct Key {
    var watchers: [Watcher] = []
    var peers: WatchedPeers
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
    keys[key, default: Key(peers: WatchedPeers(stored: driver.stored(key)))].watchers
      .append(watcher)
    keysByWatcher[watcher.number, default: []].insert(key)
    countByCaller[watcher.caller, default: 0] += 1
    schedule.add(key, for: watcher.caller)
    if let peers = keys[key]?.peers, peers.told != nil {
      send(key, peers.inOrder, to: [watcher], on: loop)
    }
    lookUpWhatIsDue(on: loop)
  }

  /// Ends what a connection watches: those keys, or by default all of them.
  func remove(_ watcher: Watcher, from some: Set<[UInt8]>? = nil) {
    guard let watched = keysByWatcher[watcher.number] else { return }
    let gone = some.map(watched.intersection) ?? watched
    for key in gone {
      keys[key]?.watchers.removeAll { $0.number == watcher.number }
      let others = keys[key]?.watchers ?? []
      schedule.remove(key, others: others.map(\.caller))
      if others.isEmpty { keys[key] = nil }
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
    keys[key]?.peers.storeChanged(driver.stored(key))
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
    for key in schedule.start(at: .now()) {
      Task { await self.lookUpAndTell(key, on: loop) }
    }
    if !timer.isArmed { loop.core.arm(timer, after: WatchSchedule.tick) }
  }

  private func lookUpAndTell(_ key: [UInt8], on loop: isolated EventLoop) async {
    var found: PeersFound?
    if keys[key]?.peers.told == nil {
      found = PeersFound { peers in self.tellFirst(peers, key, on: loop) }
    }
    let result = await driver.lookUp(
      key, by: .now() + .seconds(2), patience: .seconds(2), found: found, usesCache: false,
      on: loop)
    guard !isStopped else { return }
    guard let result, keys[key] != nil else { return schedule.ended(key, .failed) }
    var sorter = driver.sorter(of: key)
    let peers = driver.sort(result.peers, with: &sorter)
    if keys[key]?.peers.found(peers, isIncomplete: result.isIncomplete) == true {
      tell(key, on: loop)
    }
    guard let known = keys[key]?.peers else { return schedule.ended(key, .failed) }
    schedule.ended(
      key, known.isUncertain ? .uncertain : known.told?.isEmpty == false ? .found : .nobody)
  }

  /// Whoever has heard nothing yet of a key does not wait for the rest of them.
  private func tellFirst(_ peers: [DHTAddress], _ key: [UInt8], on loop: isolated EventLoop) {
    guard !isStopped, keys[key]?.peers.told == nil else { return }
    var sorter = driver.sorter(of: key)
    let found = driver.sort(peers, with: &sorter)
    if keys[key]?.peers.foundFirst(found) == true { tell(key, on: loop) }
  }

  private func tell(_ key: [UInt8], on loop: isolated EventLoop) {
    guard let state = keys[key] else { return }
    send(key, state.peers.inOrder, to: state.watchers, on: loop)
  }

  private func send(
    _ key: [UInt8], _ peers: [FoundPeer], to watchers: [Watcher], on loop: isolated EventLoop
  ) {
    let name = GrapeValue.quoted(String(decoding: key, as: UTF8.self))
    let hosts = driver.publicHosts
    var messages: [HostView: [UInt8]] = [:]
    for watcher in watchers {
      let view = watcher.view
      let message = messages[view] ?? Self.message(name, peers, view.host(hosts))
      messages[view] = message
      Task { await Self.send(key, message, watcher, on: loop) }
    }
  }

  /// Names the peers in their order: who takes some of them alone takes them of every source (P29).
  ///
  /// - Parameter host: where the watcher sees this host.
  private static func message(
    _ name: String, _ peers: [FoundPeer], _ host: DHTHost?
  ) -> [UInt8] {
    var told: Set<DHTAddress> = []
    let addresses = peers.compactMap { $0.address(withThisHostAt: host) }
    let list = addresses.filter { told.insert($0).inserted }.map { "\"\($0)\"" }
      .joined(separator: ",")
    return Array("{\"key\":\(name),\"peers\":[\(list)]}".utf8)
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
