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
  /// What may fail again and again.
  private enum Source { case lookup, watch }

  private let key: String
  /// Held until nobody follows the key any more, when the link gives this up.
  private let link: LinkCore
  private var observers: [ObjectIdentifier: any KeyObserver] = [:]
  private var task: Task<Void, Never>?
  private var known: [Endpoint]?
  fileprivate var schedule = FollowSchedule()
  private var failure: GrenacheError?
  private var failures = RecurringFailures<Source>()
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
    while !Task.isCancelled, !observers.isEmpty {
      await lookUp(on: loop)
      if !Task.isCancelled { await watch(on: loop) }
      let interval = observers.values.map(\.lookupInterval).min() ?? .seconds(5)
      try? await Task.sleep(for: schedule.rest(lookupInterval: interval, using: &generator))
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

  private func watch(on loop: isolated EventLoop) async {
    let error = await link.watch(key, for: self, on: loop)
    // While lookups fail, too, that says it all.
    guard let error, failure == nil, error.cause?.code != .cancelled else {
      failures.ended(.watch)
      return
    }
    if failures.isNew(error.kind, of: .watch, at: loop.core.now) {
      link.logger.warning(
        "a grape cannot be watched: changes are found by lookups",
        metadata: ["key": "\(key.quotedForLog())", "error": "\(error)"])
    }
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
  /// A grape that is gone without a word is noticed within 15 s.
  static var options: WebSocketOptions {
    var options = WebSocketOptions.client
    options.pingInterval = .seconds(10)
    options.pongTimeout = .seconds(5)
    return options
  }

  private let key: String
  private let follower: KeyFollower
  /// It has told something, or has ended.
  private let answered = LoopPromise<Void>()
  private let ended = LoopPromise<FollowSchedule.WatchEnd>()
  private var hasTold = false

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
  ) async -> FollowSchedule.WatchEnd {
    connection.send(.text, GrapeMessages.lookup(key, rid: UUIDText.random()).span, on: loop)
    defer { connection.close(.normal, on: loop) }
    // One that says nothing has not said that it offers nothing.
    guard case .value = await answered.wait(until: answerDeadline, on: loop) else {
      return .unreachable
    }
    follower.isWatching = hasTold && !ended.isOver
    defer { follower.isWatching = false }
    let far = MonotonicTime(nanoseconds: .max / 2)
    guard case .value(let end) = await ended.wait(until: far, on: loop) else { return .lost }
    return end
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    // What was on its way when this was given up is older than what another grape has told since.
    guard connection.isOpen, !ended.isOver else { return }
    let heard = GrapeMessages.announcers(of: key, in: payload.copy(), max: follower.workersMax)
    guard let announcers = heard else {
      // An error: of changes that come later it would not tell, either.
      return end(.notOffered, on: loop)
    }
    hasTold = true
    answered.fulfil((), on: loop)
    follower.tell(announcers, on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    end(hasTold ? .lost : .unreachable, on: loop)
  }

  private func end(_ end: FollowSchedule.WatchEnd, on loop: isolated EventLoop) {
    ended.fulfil(end, on: loop)
    answered.fulfil((), on: loop)
  }
}

extension LinkCore {
  /// Has the first grape that offers it tell of each change of `key`, until the connection ends.
  ///
  /// - Returns: why none could be watched, where that is an error.
  func watch(
    _ key: String, for follower: KeyFollower, on loop: isolated EventLoop
  ) async -> GrenacheError? {
    var failure: GrenacheError?
    for grape in grapesInOrder(at: loop.core.now)
    where follower.schedule.isWorthAsking(grape, at: loop.core.now) {
      let began = loop.core.now
      let (end, error) = await watch(key, at: grape, for: follower, on: loop)
      failure = error ?? failure
      let goesOn = follower.schedule.watchEnded(
        end, at: grape, lasting: loop.core.now - began, now: loop.core.now)
      if !goesOn || Task.isCancelled { return nil }
    }
    return failure
  }

  private func watch(
    _ key: String, at grape: Endpoint, for follower: KeyFollower, on loop: isolated EventLoop
  ) async -> (FollowSchedule.WatchEnd, GrenacheError?) {
    let watch = KeyWatch(key, for: follower)
    let limit = loop.core.now + configuration.attemptTimeout
    do throws(TransportError) {
      let connection = try await WebSocketClient.connect(
        to: Destination(grape, verification: .name(grape.host)), context: context,
        limits: WebSocketLimits(), options: KeyWatch.options, handler: watch, by: limit, on: loop)
      return (await watch.run(over: connection, answerDeadline: limit, on: loop), nil)
    } catch {
      // One that answers, but not with an upgrade, is an existing grape.
      if error.stage == .upgrade, error.code != .timedOut { return (.notOffered, nil) }
      return (
        .unreachable,
        GrenacheError(.grapeUnreachable, "grape \(grape) cannot be watched", cause: error)
      )
    }
  }
}
