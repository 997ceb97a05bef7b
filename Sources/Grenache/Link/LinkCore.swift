internal import GrenacheAccess
internal import GrenacheFraming
package import GrenacheIO
internal import GrenacheTLS
package import GrenacheTransport
internal import Logging

/// The state of a link, confined to its loop.
package final class LinkCore {
  let configuration: LinkConfiguration
  let context: TLSContext?
  let client: HTTPClient
  let logger: Logger
  private let isPlaintext: Bool
  private(set) var cache: LookupCache
  /// Who waits for the lookup of a service that is under way.
  private var waiting: [String: [LoopPromise<Result<[Endpoint], GrenacheError>>]] = [:]
  /// Keys that somebody follows.
  private var followers: [String: KeyFollower] = [:]
  private var preference = GrapePreference()
  /// The grape that answered the last lookup.
  private var namingGrape = 0
  /// What loads the certificates again, for everybody who subscribes over the link.
  private var reloading: Task<Void, Never>?
  private var reloadingUsers = 0
  /// Services of which more workers were found than are taken.
  private var crowded = RecurringFailures<String>()

  init(_ configuration: LinkConfiguration, context: TLSContext?, logger: Logger) {
    self.configuration = configuration
    self.context = context
    self.logger = logger
    client = HTTPClient(context: context)
    isPlaintext = context == nil
    cache = LookupCache(age: configuration.cacheAge, entriesMax: configuration.cacheEntriesMax)
  }

  // MARK: Lookup

  package func lookup(
    _ service: String, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [Endpoint] {
    if let known = cache.endpoints(of: service, at: .now()) { return known }
    let promise = LoopPromise<Result<[Endpoint], GrenacheError>>()
    if waiting[service] != nil {
      waiting[service]?.append(promise)
    } else {
      guard waiting.count < configuration.lookupsInFlightMax else {
        throw GrenacheError(.limitReached, "\(waiting.count) lookups are under way already")
      }
      waiting[service] = [promise]
      // A task of its own: its result serves every caller, whoever of them gives up.
      Task { await performLookup(service, on: loop) }
    }
    switch await promise.wait(until: deadline, on: loop) {
    case .value(let result): return try result.get()
    case .timedOut:
      throw GrenacheError(.deadlineExceeded, "the lookup of \(service) took too long")
    case .cancelled:
      throw GrenacheError(.cancelled, "the lookup of \(service) was cancelled")
    }
  }

  /// What is known of `service` without asking. What is a little too old is given as well and asked for
  /// anew meanwhile, so that calls neither wait for a grape nor fail with it.
  func known(_ service: String, on loop: isolated EventLoop) -> [Endpoint]? {
    let now = loop.core.now
    if let fresh = cache.endpoints(of: service, at: now) { return fresh }
    guard let stale = cache.endpoints(of: service, at: now, staleBy: configuration.staleAge) else {
      return nil
    }
    if waiting[service] == nil, waiting.count < configuration.lookupsInFlightMax {
      waiting[service] = []
      Task { await performLookup(service, on: loop) }
    }
    return stale
  }

  /// What is known of `service` is used no more without asking anew: its workers did not answer. While
  /// nobody can be asked it is still the best there is.
  package func expire(_ service: String, on loop: isolated EventLoop) {
    cache.expire(service, at: loop.core.now)
  }

  /// Asks who announces `service` now, since those who are known did not answer: another grape first, for
  /// the one that named them may be cut off from what has happened since.
  ///
  /// - Returns: those who are known when there is no answer, as old as they may be for calls.
  func lookupAnew(
    _ service: String, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [Endpoint] {
    expire(service, on: loop)
    // Calls that find this out at the same time mean the same grape.
    preference.distrust(namingGrape, of: configuration.grapes.count, at: loop.core.now)
    return try await lookupOrKnown(service, by: deadline, on: loop)
  }

  /// Who announces `service`, or did when a grape was asked last, if none answers now.
  func lookupOrKnown(
    _ service: String, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [Endpoint] {
    do throws(GrenacheError) {
      return try await lookup(service, by: deadline, on: loop)
    } catch {
      let isOver = error.code == .cancelled || error.code == .deadlineExceeded
      let stale = cache.endpoints(of: service, at: .now(), staleBy: configuration.staleAge)
      guard !isOver, let stale else { throw error }
      return stale
    }
  }

  private func performLookup(_ service: String, on loop: isolated EventLoop) async {
    let result: Result<[Endpoint], GrenacheError>
    do throws(GrenacheError) {
      let body = GrapeMessages.lookup(service, rid: UUIDText.random())
      let workersMax = configuration.workersMax
      let endpoints = try await ask("/lookup", body, on: loop) { answer throws(GrenacheError) in
        try GrapeMessages.endpoints(in: answer, max: workersMax)
      }
      namingGrape = preference.first(at: .now())
      if endpoints.count >= workersMax { noteCrowd(service, on: loop) }
      cache.store(endpoints, of: service, at: .now())
      result = .success(endpoints)
    } catch {
      result = .failure(error)
    }
    for promise in waiting.removeValue(forKey: service) ?? [] { promise.fulfil(result, on: loop) }
  }

  /// Keeps what was looked up without `lookup`.
  func keep(_ endpoints: [Endpoint], of service: String) {
    cache.store(endpoints, of: service, at: .now())
  }

  /// As many are found as are taken: others may have been left out.
  func noteCrowd(_ service: String, on loop: isolated EventLoop) {
    guard crowded.isNew("crowded", of: service, at: loop.core.now) else { return }
    logger.warning(
      "as many are found as are taken; others are left out",
      metadata: [
        "service": "\(service.quotedForLog())", "workersMax": "\(configuration.workersMax)",
      ])
  }

  // MARK: Following

  /// Has `observer` hear of who announces `key`, until it is removed.
  func follow(_ key: String, _ observer: any KeyObserver, on loop: isolated EventLoop) {
    let follower = followers[key] ?? KeyFollower(key, link: self)
    followers[key] = follower
    follower.add(observer, on: loop)
  }

  func unfollow(_ key: String, _ observer: any KeyObserver) {
    guard let follower = followers[key] else { return }
    follower.remove(observer)
    if follower.isUnused { followers[key] = nil }
  }

  /// Whether a grape tells of the changes of `key` at present.
  func isWatching(_ key: String) -> Bool { followers[key]?.isWatching == true }

  // MARK: Announce

  func announce(
    _ service: String, port: UInt16, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> Int {
    let body = GrapeMessages.announce(service, port: port, rid: UUIDText.random())
    var isAlone = false
    do throws(GrenacheError) {
      return try await ask("/announce", body, by: deadline, on: loop) {
        answer throws(GrenacheError) in
        if GrapeMessages.knowsNoOther(answer) { isAlone = true }
        return try GrapeMessages.storedCount(in: answer)
      }
    } catch {
      // A grape that knows no other keeps the announcement itself, if it is one of ours.
      guard isAlone, error.code != .cancelled else { throw error }
      return 0
    }
  }

  /// Takes an announcement back at one grape.
  ///
  /// - Returns: whether it understood.
  func withdraw(
    _ service: String, port: UInt16, at grape: Endpoint, by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async -> Result<Bool, GrenacheError> {
    let body = GrapeMessages.announce(service, port: port, rid: UUIDText.random())
    let outcome = await ask(
      grape, "/withdraw", body, isRepeatable: true, by: deadline, on: loop,
      read: GrapeMessages.isWithdrawn)
    switch outcome {
    case .answered(let isWithdrawn): return .success(isWithdrawn)
    case .refused(let error): return .failure(error)
    case .failed(let error):
      guard deadline <= .now() else { return .failure(error) }
      return .failure(
        GrenacheError(
          .deadlineExceeded, "grape \(grape) has not answered in time", cause: error.cause))
    }
  }

  // MARK: Certificates

  /// Has the certificates loaded again when their files change, until as many do not want it any more.
  func beginReloading(_ reloader: FileReloader?) {
    reloadingUsers += 1
    guard reloading == nil, let reloader else { return }
    reloading = Task { await reloader.run() }
  }

  func endReloading() {
    reloadingUsers = max(0, reloadingUsers - 1)
    guard reloadingUsers == 0 else { return }
    reloading?.cancel()
    reloading = nil
  }

  func close(on loop: isolated EventLoop) {
    for follower in followers.values { follower.stop() }
    followers = [:]
    client.close(on: loop)
  }

  // MARK: Grapes

  /// The grapes in the order in which they are asked.
  func grapesInOrder(at now: MonotonicTime) -> [Endpoint] {
    let grapes = configuration.grapes
    let first = preference.first(at: now)
    return Array(grapes[first...] + grapes[..<first])
  }

  /// A round of asking them, one after the other.
  func round(by deadline: MonotonicTime?) -> GrapeRound {
    GrapeRound(
      of: configuration.grapes.count, from: preference.first(at: .now()),
      attemptTimeout: configuration.attemptTimeout, deadline: deadline)
  }

  /// Asks the grape of this index first from now on, for it has answered.
  func prefer(_ grape: Int) { preference.answered(grape, at: .now()) }

  /// Begins the next round where the deadline has ended this one.
  func beginElsewhere(after round: GrapeRound) {
    if let index = round.untried { prefer(index) }
  }

  /// How it went to ask one grape.
  enum Attempt<Answer> {
    case answered(Answer)
    /// It says no, and the next one would, too.
    case refused(GrenacheError)
    /// The next one may do better.
    case failed(GrenacheError)
  }

  /// Asks the grapes one after the other until one answers with something that `read` understands, or
  /// says no.
  ///
  /// - Parameter isRepeatable: whether to ask twice does no harm; otherwise nobody else is asked once a
  ///   grape may have heard it.
  func ask<Answer>(
    _ path: String, _ body: [UInt8], isRepeatable: Bool = true, by deadline: MonotonicTime? = nil,
    on loop: isolated EventLoop, read: ([UInt8]) throws(GrenacheError) -> Answer
  ) async throws(GrenacheError) -> Answer {
    let grapes = configuration.grapes
    var round = round(by: deadline)
    while true {
      switch round.next(at: .now()) {
      case .fail(let error):
        beginElsewhere(after: round)
        throw error
      case .ask(let index, let limit):
        let outcome = await ask(
          grapes[index], path, body, isRepeatable: isRepeatable, by: limit, on: loop, read: read)
        switch outcome {
        case .answered(let answer):
          prefer(index)
          return answer
        case .refused(let error):
          throw error
        case .failed(let error):
          round.failed(error)
        }
      }
    }
  }

  /// The same, for what its caller reads.
  func ask(
    _ path: String, _ body: [UInt8], isRepeatable: Bool = true, by deadline: MonotonicTime? = nil,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [UInt8] {
    try await ask(path, body, isRepeatable: isRepeatable, by: deadline, on: loop) {
      answer throws(GrenacheError) in answer
    }
  }

  private func ask<Answer>(
    _ grape: Endpoint, _ path: String, _ body: [UInt8], isRepeatable: Bool,
    by deadline: MonotonicTime, on loop: isolated EventLoop,
    read: ([UInt8]) throws(GrenacheError) -> Answer
  ) async -> Attempt<Answer> {
    let destination = Destination(grape, verification: .name(grape.host))
    let request = HTTPClientRequest(.post, path, fields: GrapeMessages.fields, body: body)
    let response: HTTPClientResponse
    do throws(TransportError) {
      response = try await client.send(
        request, to: destination, by: deadline, isRetryable: isRepeatable, on: loop)
    } catch {
      guard isRepeatable || error.stage != .transfer || error.code == .cancelled else {
        let message = "grape \(grape) may have heard it, and has not answered"
        return .refused(GrenacheError(.connectionLost, message, cause: error))
      }
      return Self.attempt(at: grape, failedWith: error)
    }
    let status = response.status.code
    guard (200..<300).contains(status) else {
      return Self.attempt(
        at: grape, path, answered: status, response.body, isRepeatable: isRepeatable)
    }
    do throws(GrenacheError) {
      return .answered(try read(response.body))
    } catch {
      // An error of the grape's own is an answer; what is no answer at all says nothing of the others.
      let isElsewhereBetter = path == "/announce" && GrapeMessages.cannotAnnounce(response.body)
      let isAnswer =
        GrapeMessages.isError(response.body) && !isElsewhereBetter || !isRepeatable
      return isAnswer ? .refused(error) : .failed(error)
    }
  }

  static func attempt<Answer>(
    at grape: Endpoint, failedWith error: TransportError
  ) -> Attempt<Answer> {
    guard error.code != .cancelled else {
      return .refused(
        GrenacheError(.cancelled, "grape \(grape) was not waited for", cause: error))
    }
    return .failed(
      GrenacheError(.grapeUnreachable, "grape \(grape) cannot be asked", cause: error))
  }

  /// What it means that a grape has answered with a status that is no success.
  static func attempt<Answer>(
    at grape: Endpoint, _ path: String, answered status: Int, _ body: [UInt8], isRepeatable: Bool
  ) -> Attempt<Answer> {
    let text = String(decoding: body.prefix(200), as: UTF8.self)
    let isUntouched = isRepeatable || text.contains(GrapeMessages.overloadedCode)
    let error = GrenacheError(
      refusal(status, of: path, isUntouched: isUntouched),
      "grape \(grape) answered \(status): \(text.quotedForLog())")
    return status >= 500 && isUntouched ? .failed(error) : .refused(error)
  }

  /// What a status says; a put has two of its own, the error numbers of BEP 44.
  ///
  /// - Parameter isUntouched: whether the request was not carried out, or does no harm when it is again.
  private static func refusal(
    _ status: Int, of path: String, isUntouched: Bool
  ) -> GrenacheError.Code {
    switch (path, status) {
    case ("/put", 301): .compareAndSwapFailed
    case ("/put", 302): .sequenceNotGreater
    case (_, 403): .notPermitted
    case (_, 429): .overloaded
    case (_, 503) where isUntouched: .overloaded
    default: .grapeRefused
    }
  }
}
