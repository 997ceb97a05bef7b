internal import Foundation
internal import GrenacheAccess
internal import GrenacheDHT
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// Somebody who watches keys over a WebSocket: a message `{"data":"<key>"}` begins to watch one, and each
/// time its peers change a message `{"key":"<key>","peers":["<ip:port>",…]}` goes out, the first at
/// once. Errors are answered with `{"error":"<text>"}`.
final class GrapeWatch: WebSocketHandler {
  /// Keys that one connection may watch.
  static let keysMax = 100

  private let watches: LoopBound<GrapeWatches>
  private let request: HTTPServerRequest
  private let api: GrapeAPI
  private var keys: Set<[UInt8]> = []
  private let number = UInt64.random(in: 0 ... .max)

  init(_ api: GrapeAPI, _ watches: LoopBound<GrapeWatches>, _ request: HTTPServerRequest) {
    self.api = api
    self.watches = watches
    self.request = request
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    guard
      case .success(.lookup(let key)) = GrapeRequest.parse(
        target: "/lookup", body: payload.copy())
    else { return refuse("ERR_GRAPE_LOOKUP", connection, on: loop) }
    guard api.may(.lookup, key, request) else {
      return refuse("ERR_GRAPE_NOT_PERMITTED", connection, on: loop)
    }
    guard keys.count < Self.keysMax || keys.contains(key) else {
      return refuse("ERR_GRAPE_WATCH_LIMIT", connection, on: loop)
    }
    guard keys.insert(key).inserted else { return }
    let target = LoopBound(connection, on: loop)
    let number = number
    let watches = watches
    Task {
      await watches.loop.run { loop in
        watches.get(on: loop).add(
          GrapeWatches.Watcher(number: number, connection: target), to: key, on: loop)
      }
    }
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    let (number, keys, watches) = (number, keys, watches)
    Task {
      await watches.loop.run { loop in watches.get(on: loop).remove(number, from: keys) }
    }
  }

  private func refuse(
    _ text: String, _ connection: WebSocketConnection, on loop: isolated EventLoop
  ) {
    connection.send(.text, Array("{\"error\":\"\(text)\"}".utf8).span, on: loop)
  }
}

/// Who watches which keys of a grape. Confined to the loop of the DHT.
///
/// What this grape stores is told at once; what others store is looked up again every half a second.
/// Nodes may answer with different parts of many peers, so a peer is gone only when two lookups in a row
/// miss it, or when this grape itself saw it go.
final class GrapeWatches: LoopTimerTarget, DHTDriverObserver {
  struct Watcher: Sendable {
    let number: UInt64
    let connection: LoopBound<WebSocketConnection>
  }
  private struct Key {
    var watchers: [Watcher] = []
    var told: Set<DHTAddress>?
    /// Peers that the last lookup has missed.
    var missed: Set<DHTAddress> = []
    var isLookingUp = false
    var hasChanged = false
  }

  /// Keys that are watched at a grape; more are not.
  static let keysMax = 1_000
  /// How often keys are looked up again.
  static let interval = Duration.milliseconds(500)

  private let driver: DHTDriver
  private let answers: LookupAnswers
  private var keys: [[UInt8]: Key] = [:]
  private lazy var timer = TargetTimer(self)

  /// Hears of changes from `driver`, and has `answers` forget what was known of a key then.
  init(_ driver: DHTDriver, _ answers: LookupAnswers) {
    self.driver = driver
    self.answers = answers
    driver.observer = self
  }

  func add(_ watcher: Watcher, to key: [UInt8], on loop: isolated EventLoop) {
    guard keys[key] != nil || keys.count < Self.keysMax else {
      return Self.send("{\"error\":\"ERR_GRAPE_WATCH_LIMIT\"}", to: [watcher])
    }
    keys[key, default: Key()].watchers.append(watcher)
    if let told = keys[key]?.told { Self.send(Self.message(key, told), to: [watcher]) }
    lookUp(key, on: loop)
    if !timer.isArmed { loop.core.arm(timer, after: Self.interval) }
  }

  func remove(_ number: UInt64, from watched: Set<[UInt8]>) {
    for key in watched {
      keys[key]?.watchers.removeAll { $0.number == number }
      if keys[key]?.watchers.isEmpty == true { keys[key] = nil }
    }
  }

  /// This grape has stored something of a key, or forgotten it.
  func peersChanged(_ key: [UInt8], on loop: isolated EventLoop) {
    answers.change(key)
    guard keys[key] != nil else { return }
    keys[key]?.hasChanged = true
    lookUp(key, on: loop)
  }

  func stop(on loop: isolated EventLoop) {
    loop.core.cancel(timer)
    keys = [:]
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    guard !keys.isEmpty else { return }
    for key in keys.keys { lookUp(key, on: loop) }
    loop.core.arm(timer, after: Self.interval)
  }

  private func lookUp(_ key: [UInt8], on loop: isolated EventLoop) {
    guard let state = keys[key], !state.isLookingUp else { return }
    keys[key]?.isLookingUp = true
    keys[key]?.hasChanged = false
    let sawChange = state.hasChanged
    Task { await self.lookUpAndTell(key, sawChange, on: loop) }
  }

  private func lookUpAndTell(
    _ key: [UInt8], _ sawChange: Bool, on loop: isolated EventLoop
  ) async {
    let result = await driver.lookUp(key, by: .now() + .seconds(2), on: loop)
    guard var state = keys[key] else { return }
    state.isLookingUp = false
    if let result { tell(Set(result.peers), key, &state, sawChange) }
    keys[key] = state
    // Something has changed while the lookup was under way.
    if state.hasChanged { lookUp(key, on: loop) }
  }

  private func tell(
    _ found: Set<DHTAddress>, _ key: [UInt8], _ state: inout Key, _ sawChange: Bool
  ) {
    let told = state.told ?? []
    let missed = told.subtracting(found)
    let gone = sawChange ? missed : missed.intersection(state.missed)
    state.missed = missed
    let peers = told.union(found).subtracting(gone)
    guard state.told == nil || peers != told else { return }
    state.told = peers
    Self.send(Self.message(key, peers), to: state.watchers)
  }

  private static func message(_ key: [UInt8], _ peers: Set<DHTAddress>) -> String {
    let name = GrapeValue.quoted(String(decoding: key, as: UTF8.self))
    let list = peers.sorted().map { "\"\($0)\"" }.joined(separator: ",")
    return "{\"key\":\(name),\"peers\":[\(list)]}"
  }

  private static func send(_ text: String, to watchers: [Watcher]) {
    let bytes = Array(text.utf8)
    for watcher in watchers {
      let connection = watcher.connection
      Task {
        await connection.loop.run { loop in
          let connection = connection.get(on: loop)
          if connection.isOutputFull {
            // Whoever does not read would miss changes without knowing it.
            connection.close(.policyViolation, reason: "too slow", on: loop)
          } else {
            connection.send(.text, bytes.span, on: loop)
          }
        }
      }
    }
  }
}
