internal import GrenacheAccess
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport
internal import Logging

/// Who wants to hear of those who announce a key.
protocol KeyObserver: AnyObject {
  /// The mean time between two lookups where the grape tells of no changes by itself.
  var lookupInterval: Duration { get }
  /// Who announces the key now.
  func announcersChanged(_ announcers: [Endpoint], on loop: isolated EventLoop)
  /// Why nobody can say who announces it; `nil` once somebody can again.
  func lookupFailed(_ error: GrenacheError?, on loop: isolated EventLoop)
}

/// Follows who announces one key, for any number of observers on one link: by `watch` where the grape
/// offers it, else, and while no grape is there, by looking it up again and again.
///
///     looking up → watching ↺ (the connection is lost: looking up, after a pause drawn by chance)
final class KeyFollower {
  /// How often a grape that offers no `watch` is asked for it again: grapes get upgraded.
  static let offerInterval = Duration.seconds(60)

  /// What may fail again and again.
  private enum Source { case lookup, watch }

  private let key: String
  /// Held until nobody follows the key any more, when the link gives this up.
  private let link: LinkCore
  private var observers: [ObjectIdentifier: any KeyObserver] = [:]
  private var task: Task<Void, Never>?
  private var known: [Endpoint]?
  private var failure: GrenacheError?
  private var failures = RecurringFailures<Source>()
  private var pace = FollowPace()
  private var generator = FastGenerator()
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
    if let failure { observer.lookupFailed(failure, on: loop) }
    if task == nil { task = Task { await run(on: loop) } }
  }

  func remove(_ observer: any KeyObserver) {
    observers[ObjectIdentifier(observer)] = nil
    if observers.isEmpty { task?.cancel() }
  }

  /// The link is closed: nobody is told anything more.
  func stop() {
    observers = [:]
    task?.cancel()
  }

  /// Takes over what a grape has said.
  func tell(_ announcers: [Endpoint], on loop: isolated EventLoop) {
    known = announcers
    for observer in Array(observers.values) { observer.announcersChanged(announcers, on: loop) }
  }

  private func run(on loop: isolated EventLoop) async {
    var nextOffer = loop.core.now
    while !Task.isCancelled, !observers.isEmpty {
      await lookUp(on: loop)
      var end: KeyWatch.End?
      let began = loop.core.now
      if began >= nextOffer, !Task.isCancelled {
        end = await watch(on: loop)
        if end == .notOffered { nextOffer = loop.core.now + Self.offerInterval }
      }
      let interval = observers.values.map(\.lookupInterval).min() ?? .seconds(5)
      let pause = pace.pause(
        after: end, lasting: loop.core.now - began, interval: interval, using: &generator)
      try? await Task.sleep(for: pause)
    }
  }

  private func lookUp(on loop: isolated EventLoop) async {
    // Who has come is to be heard soon, not when what is known is old.
    link.expire(key, on: loop)
    do throws(GrenacheError) {
      let found = try await link.lookup(key, by: .now() + .seconds(10), on: loop)
      tell(found, on: loop)
      note(nil, on: loop)
    } catch {
      if error.code != .cancelled { note(error, on: loop) }
    }
  }

  private func watch(on loop: isolated EventLoop) async -> KeyWatch.End {
    let (end, error) = await link.watch(key, for: self, on: loop)
    // While lookups fail, too, that says it all.
    guard let error, failure == nil, error.cause?.code != .cancelled else {
      failures.ended(.watch)
      return end
    }
    if failures.isNew(error.kind, of: .watch, at: loop.core.now) {
      link.logger.warning(
        "a grape cannot be watched: changes are found by lookups",
        metadata: ["key": "\(key.quotedForLog())", "error": "\(error)"])
    }
    return end
  }

  private func note(_ error: GrenacheError?, on loop: isolated EventLoop) {
    if let error {
      if failures.isNew(error.kind, of: .lookup, at: loop.core.now) {
        link.logger.warning(
          "who announces a key cannot be looked up",
          metadata: [
            "key": "\(key.quotedForLog())", "error": "\(error)", "code": "\(error.code)",
          ])
      }
    } else if failures.ended(.lookup) {
      link.logger.info(
        "who announces a key can be looked up again", metadata: ["key": "\(key.quotedForLog())"])
    }
    guard error?.kind != failure?.kind else { return }
    failure = error
    for observer in Array(observers.values) { observer.lookupFailed(error, on: loop) }
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
  ) async -> (end: KeyWatch.End, error: GrenacheError?) {
    var end = KeyWatch.End.unreachable
    var failure: GrenacheError?
    for grape in grapesInOrder(at: loop.core.now) {
      let watch = KeyWatch(key, for: follower)
      let limit = loop.core.now + configuration.attemptTimeout
      do throws(TransportError) {
        let connection = try await WebSocketClient.connect(
          to: Destination(grape, verification: .name(grape.host)), context: context,
          limits: WebSocketLimits(), options: KeyWatch.options, handler: watch, by: limit, on: loop)
        end = await watch.run(over: connection, answerDeadline: limit, on: loop)
        if end == .lost { return (end, nil) }
      } catch {
        // One that answers, but not with an upgrade, is an existing grape.
        if error.stage == .upgrade, error.code != .timedOut {
          end = .notOffered
        } else {
          failure = GrenacheError(
            .grapeUnreachable, "grape \(grape) cannot be watched", cause: error)
        }
      }
      if Task.isCancelled { return (end, nil) }
    }
    return (end, failure)
  }
}
