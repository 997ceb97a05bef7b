internal import GrenacheAccess
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// Somebody who watches keys over a WebSocket: a message `{"data":"<key>"}` begins to watch one, and each
/// time its peers change a message `{"key":"<key>","peers":["<ip:port>",…]}` goes out, the first at
/// once. Errors are answered with `{"error":"<text>"}`. Confined to the connection's loop.
final class GrapeWatch: WebSocketHandler {
  /// Keys that one connection may watch.
  static let keysMax = 100

  private let watches: LoopBound<GrapeWatches>
  private let request: HTTPServerRequest
  private let api: GrapeAPI
  private var keys: Set<[UInt8]> = []
  private let number = UInt64.random(in: 0 ... .max)
  /// `nil` before the first message and once it is closed.
  private var connection: WebSocketConnection?
  /// The version of the policy that allows the keys.
  private var policyVersion: Int?

  init(_ api: GrapeAPI, _ watches: LoopBound<GrapeWatches>, _ request: HTTPServerRequest) {
    self.api = api
    self.watches = watches
    self.request = request
    policyVersion = api.configuration.access?.version
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    self.connection = connection
    guard
      case .success(.lookup(let key)) = GrapeRequest.parse(
        target: "/lookup", body: payload.copy())
    else { return refuse("ERR_GRAPE_LOOKUP", on: loop) }
    guard api.may(.lookup, key, request) else {
      return refuse("ERR_GRAPE_NOT_PERMITTED", on: loop)
    }
    guard keys.count < Self.keysMax || keys.contains(key) else {
      return refuse("ERR_GRAPE_WATCH_LIMIT", on: loop)
    }
    guard keys.insert(key).inserted else { return }
    let (watcher, watches) = (watcher(on: loop), watches)
    Task { await Self.add(watcher, key, watches, on: loop) }
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    self.connection = nil
    keys = []
    let (watcher, watches) = (watcher(on: loop), watches)
    Task { await Self.remove(watcher, nil, watches, on: loop) }
  }

  /// The peers of a key have changed.
  func tell(_ key: [UInt8], _ message: [UInt8], on loop: isolated EventLoop) {
    checkPolicy(on: loop)
    guard let connection, keys.contains(key) else { return }
    if connection.isOutputFull {
      // Whoever does not read would miss changes without knowing it.
      connection.close(.policyViolation, reason: "too slow", on: loop)
    } else {
      connection.send(.text, message.span, on: loop)
    }
  }

  /// There are too many keys to watch this one.
  func refused(_ key: [UInt8], on loop: isolated EventLoop) {
    guard keys.remove(key) != nil else { return }
    refuse("ERR_GRAPE_WATCH_LIMIT", on: loop)
  }

  /// What was allowed before the policy changed need not be any more (P26).
  private func checkPolicy(on loop: isolated EventLoop) {
    let version = api.configuration.access?.version
    guard version != policyVersion else { return }
    policyVersion = version
    let denied = keys.filter { !api.may(.lookup, $0, request) }
    guard !denied.isEmpty else { return }
    keys.subtract(denied)
    refuse("ERR_GRAPE_NOT_PERMITTED", on: loop)
    let (watcher, watches) = (watcher(on: loop), watches)
    Task { await Self.remove(watcher, denied, watches, on: loop) }
  }

  private func watcher(on loop: isolated EventLoop) -> GrapeWatches.Watcher {
    GrapeWatches.Watcher(
      number: number,
      caller: GrapeCaller(request),
      view: HostView(request),
      watch: LoopBound(self, on: loop))
  }

  private static func add(
    _ watcher: GrapeWatches.Watcher, _ key: [UInt8], _ watches: LoopBound<GrapeWatches>,
    on loop: isolated EventLoop
  ) async {
    await watches.loop.run { loop in watches.get(on: loop).add(watcher, to: key, on: loop) }
  }

  private static func remove(
    _ watcher: GrapeWatches.Watcher, _ keys: Set<[UInt8]>?, _ watches: LoopBound<GrapeWatches>,
    on loop: isolated EventLoop
  ) async {
    await watches.loop.run { loop in watches.get(on: loop).remove(watcher, from: keys) }
  }

  private func refuse(_ text: String, on loop: isolated EventLoop) {
    connection?.send(.text, Array("{\"error\":\"\(text)\"}".utf8).span, on: loop)
  }
}
