internal import GrenacheFraming
package import GrenacheIO
internal import GrenacheTLS
package import GrenacheTransport
internal import Logging

/// The state of a link, confined to its loop.
package final class LinkCore {
  private let configuration: LinkConfiguration
  private let client: HTTPClient
  private let logger: Logger
  private let isPlaintext: Bool
  private var cache: LookupCache
  /// Who waits for the lookup of a service that is under way.
  private var waiting: [String: [LoopPromise<Result<[Endpoint], GrenacheError>>]] = [:]
  /// The grape that answered last is asked first.
  private var preferredGrape = 0

  init(_ configuration: LinkConfiguration, context: TLSContext?, logger: Logger) {
    self.configuration = configuration
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

  /// Forgets what is known of `service`: its workers did not answer.
  package func forget(_ service: String) {
    cache.remove(service)
  }

  private func performLookup(_ service: String, on loop: isolated EventLoop) async {
    let result: Result<[Endpoint], GrenacheError>
    do throws(GrenacheError) {
      let body = GrapeMessages.lookup(service, rid: UUIDText.random())
      let answer = try await ask("/lookup", body, on: loop)
      let endpoints = try GrapeMessages.endpoints(in: answer, max: configuration.workersMax)
      cache.store(endpoints, of: service, at: .now())
      result = .success(endpoints)
    } catch {
      result = .failure(error)
    }
    for promise in waiting.removeValue(forKey: service) ?? [] { promise.fulfil(result, on: loop) }
  }

  // MARK: Announce

  func announce(
    _ service: String, port: UInt16, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> Int {
    let body = GrapeMessages.announce(service, port: port, rid: UUIDText.random())
    let answer = try await ask("/announce", body, by: deadline, on: loop)
    return try GrapeMessages.storedCount(in: answer)
  }

  func withdraw(
    _ service: String, port: UInt16, by deadline: MonotonicTime, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> Bool {
    let body = GrapeMessages.announce(service, port: port, rid: UUIDText.random())
    let answer = try await ask("/withdraw", body, by: deadline, on: loop)
    return try GrapeMessages.isWithdrawn(answer)
  }

  func close(on loop: isolated EventLoop) {
    client.close(on: loop)
  }

  // MARK: Grapes

  /// Asks the grapes one after the other until one answers.
  private func ask(
    _ path: String, _ body: [UInt8], by deadline: MonotonicTime? = nil,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [UInt8] {
    let grapes = configuration.grapes
    let first = preferredGrape
    var failure = GrenacheError(.grapeUnreachable, "no grape answered")
    for step in 0..<grapes.count {
      let index = (first + step) % grapes.count
      let attempt = MonotonicTime.now() + configuration.attemptTimeout
      let limit = min(attempt, deadline ?? attempt)
      do throws(GrenacheError) {
        let answer = try await ask(grapes[index], path, body, by: limit, on: loop)
        preferredGrape = index
        return answer
      } catch {
        failure = error
        switch error.code {
        case .cancelled, .grapeRefused, .notPermitted: throw error
        default: break
        }
        if let deadline, deadline <= .now() {
          throw GrenacheError(
            .deadlineExceeded, "no grape answered in time", cause: error.cause)
        }
      }
    }
    throw failure
  }

  private func ask(
    _ grape: Endpoint, _ path: String, _ body: [UInt8], by deadline: MonotonicTime,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [UInt8] {
    let destination = Destination(grape, verification: .name(grape.host))
    let request = HTTPClientRequest(.post, path, fields: GrapeMessages.fields, body: body)
    let response: HTTPClientResponse
    do {
      // Looking up and announcing twice does no harm.
      response = try await client.send(
        request, to: destination, by: deadline, isRetryable: true, on: loop)
    } catch {
      let code: GrenacheError.Code = error.code == .cancelled ? .cancelled : .grapeUnreachable
      throw GrenacheError(code, "grape \(grape) cannot be asked", cause: error)
    }
    guard (200..<300).contains(response.status.code) else {
      let text = String(decoding: response.body.prefix(200), as: UTF8.self)
      let code: GrenacheError.Code = response.status.code == 403 ? .notPermitted : .grapeRefused
      throw GrenacheError(code, "grape \(grape) answered \(response.status.code): \(text)")
    }
    return response.body
  }
}
