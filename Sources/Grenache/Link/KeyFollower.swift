internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// Who wants to hear of those who announce a key.
protocol KeyObserver: AnyObject {
  /// The mean time between two lookups where the grape tells of no changes by itself.
  var lookupInterval: Duration { get }
  /// Who announces the key now.
  func announcersChanged(_ announcers: [Endpoint], on loop: isolated EventLoop)
}

/// Follows who announces one key, for any number of observers on one link: by `watch` where the grape
/// offers it, else, and while no grape is there, by looking it up again and again.
///
///     looking up → watching ↺ (the connection is lost: looking up, after a pause drawn by chance)
final class KeyFollower {
  /// How often a grape that offers no `watch` is asked for it again: grapes get upgraded.
  static let offerInterval = Duration.seconds(60)
  /// The pause after a watch has ended, at first; it doubles with each that tells nothing, up to the
  /// interval of lookups.
  static let pauseMin = Duration.milliseconds(200)

  private let key: String
  /// Held until nobody follows the key any more, when the link gives this up.
  private let link: LinkCore
  private var observers: [ObjectIdentifier: any KeyObserver] = [:]
  private var task: Task<Void, Never>?
  private var known: [Endpoint]?
  /// Whether a grape tells of changes at present.
  fileprivate(set) var isWatching = false

  init(_ key: String, link: LinkCore) {
    self.key = key
    self.link = link
  }

  var isUnused: Bool { observers.isEmpty }
  /// How many of them are taken.
  var workersMax: Int { link.configuration.workersMax }

  func add(_ observer: any KeyObserver, on loop: isolated EventLoop) {
    observers[ObjectIdentifier(observer)] = observer
    if let known { observer.announcersChanged(known, on: loop) }
    if task == nil { task = Task { await run(on: loop) } }
  }

  func remove(_ observer: any KeyObserver) {
    observers[ObjectIdentifier(observer)] = nil
    if observers.isEmpty { task?.cancel() }
  }

  /// Takes over what a grape has said.
  func tell(_ announcers: [Endpoint], on loop: isolated EventLoop) {
    known = announcers
    for observer in Array(observers.values) { observer.announcersChanged(announcers, on: loop) }
  }

  private func run(on loop: isolated EventLoop) async {
    var failures = 0
    var nextOffer = loop.core.now
    while !Task.isCancelled, !observers.isEmpty {
      await lookUp(on: loop)
      var pause = observers.values.map(\.lookupInterval).min() ?? .seconds(5)
      if loop.core.now >= nextOffer, !Task.isCancelled {
        switch await link.watch(key, for: self, on: loop) {
        case .lost:
          failures = 0
          pause = min(Self.pauseMin, pause)
        case .unreachable:
          pause = min(Self.pauseMin * (1 << failures), pause)
          failures = min(failures + 1, 10)
        case .notOffered:
          nextOffer = loop.core.now + Self.offerInterval
        }
      }
      try? await Task.sleep(for: pause * Double.random(in: 0.75...1.25))
    }
  }

  private func lookUp(on loop: isolated EventLoop) async {
    // Who has come is to be heard soon, not when what is known is old.
    link.expire(key, on: loop)
    if let found = try? await link.lookup(key, by: .now() + .seconds(10), on: loop) {
      tell(found, on: loop)
    }
  }
}

/// The connection over which a grape tells of the changes of one key (the `watch` of its API), confined
/// to the loop of a link.
///
///     connecting → asked → told ↺ → ended
final class KeyWatch: WebSocketHandler {
  /// How a watch ended.
  enum End: Sendable {
    /// It told something, and the connection is gone.
    case lost
    /// No grape could be connected to.
    case unreachable
    /// The grape knows no watching, or does not allow it.
    case notOffered
  }

  /// A grape that is gone without a word is noticed within 15 s.
  static var options: WebSocketOptions {
    var options = WebSocketOptions.client
    options.pingInterval = .seconds(10)
    options.pongDeadline = .seconds(5)
    return options
  }

  private let key: String
  private let follower: KeyFollower
  private let answered = LoopPromise<Bool>()
  private let ended = LoopPromise<Void>()

  init(_ key: String, for follower: KeyFollower) {
    self.key = key
    self.follower = follower
  }

  /// Watches over `connection` until it ends or the task is cancelled.
  ///
  /// - Parameter answerDeadline: by when the first answer has to come.
  func run(
    over connection: WebSocketConnection, answerDeadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async -> End {
    connection.send(.text, GrapeMessages.lookup(key, rid: UUIDText.random()).span, on: loop)
    guard case .value(true) = await answered.wait(until: answerDeadline, on: loop) else {
      connection.close(.normal, on: loop)
      return .notOffered
    }
    follower.isWatching = true
    defer { follower.isWatching = false }
    let far = MonotonicTime(nanoseconds: .max / 2)
    if case .cancelled = await ended.wait(until: far, on: loop) {
      connection.close(.normal, on: loop)
    }
    return .lost
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    let heard = GrapeMessages.announcers(of: key, in: payload.copy(), max: follower.workersMax)
    guard let announcers = heard else {
      return answered.fulfil(false, on: loop)
    }
    guard !ended.isOver else { return }
    answered.fulfil(true, on: loop)
    follower.tell(announcers, on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    answered.fulfil(false, on: loop)
    ended.fulfil((), on: loop)
  }
}

extension LinkCore {
  /// Has the first grape that offers it tell of each change of `key`, until the connection ends.
  func watch(
    _ key: String, for follower: KeyFollower, on loop: isolated EventLoop
  ) async -> KeyWatch.End {
    var end = KeyWatch.End.unreachable
    for grape in grapesInOrder {
      let watch = KeyWatch(key, for: follower)
      let limit = loop.core.now + configuration.attemptTimeout
      do throws(TransportError) {
        let connection = try await WebSocketClient.connect(
          to: Destination(grape, verification: .name(grape.host)), context: context,
          limits: WebSocketLimits(), options: KeyWatch.options, handler: watch, by: limit, on: loop)
        end = await watch.run(over: connection, answerDeadline: limit, on: loop)
        if end == .lost { return end }
      } catch {
        // One that answers, but not with an upgrade, is an existing grape.
        if error.stage == .upgrade, error.code != .timedOut { end = .notOffered }
      }
      if Task.isCancelled { return end }
    }
    return end
  }
}
