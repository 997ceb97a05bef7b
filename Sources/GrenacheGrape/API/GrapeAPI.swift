internal import Foundation
internal import GrenacheAccess
internal import GrenacheDHT
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport
internal import Logging
internal import Metrics

/// The HTTP API of a grape, byte for byte as existing clients know it, and beyond it what they do not
/// know: `/withdraw`, and what `GrapeAPI+Pages` shows.
struct GrapeAPI: Sendable {
  /// Addresses in one answer.
  static let lookupResultsMax = 100

  let driver: LoopBound<DHTDriver>
  let configuration: GrapeConfiguration
  let dhtPort: UInt16
  let answers: LookupAnswers
  let requests: RequestsInFlight
  let denials = DenialLog()
  /// What is refused for want of room.
  let shortages = LogThrottle()
  /// What went well and is logged: once in a while of each service, for the rest is its being renewed.
  let notices = LogThrottle()
  let logger: Logger

  /// The answer to what the access policy does not allow.
  static let notPermitted = "ERR_GRAPE_NOT_PERMITTED"
  private static let announces = Counter(label: "grenache_grape_announces_total")
  private static let withdrawals = Counter(label: "grenache_grape_withdrawals_total")
  static let lookups = Counter(label: "grenache_grape_lookups_total")
  static let cached = Counter(label: "grenache_grape_cached_lookups_total")
  private static let puts = Counter(label: "grenache_grape_puts_total")
  private static let gets = Counter(label: "grenache_grape_gets_total")
  static let refusals = Counter(label: "grenache_grape_refused_requests_total")

  func respond(to request: HTTPServerRequest) async -> HTTPServerResponse {
    if let page = await page(request) { return page }
    switch GrapeRequest.parse(target: request.target, body: request.body) {
    case .success(let asked):
      let (right, key) = asked.right
      guard may(right, key, request) else { return bare(403, Self.notPermitted) }
      return await answer(asked, request)
    case .failure(let refusal):
      Self.refusals.increment()
      return answer(refusal)
    }
  }

  func answer(_ refusal: GrapeRequest.Refusal) -> HTTPServerResponse {
    switch refusal {
    case .error(let text): json(text)
    case .failure(let status, let text): bare(status, text)
    case .empty: HTTPServerResponse(.ok)
    }
  }

  private func answer(
    _ asked: GrapeRequest, _ request: HTTPServerRequest
  ) async -> HTTPServerResponse {
    switch asked {
    case .announce(let key, let port, let address):
      Self.announces.increment()
      return await counted(request) { await announce(key, port, address, request, $0) }
    case .withdraw(let key, let port, let address):
      Self.withdrawals.increment()
      return await counted(request) { await withdraw(key, port, address, request, $0) }
    case .lookup(let key):
      Self.lookups.increment()
      return await lookup(key, request)
    case .put(let item, let compareAndSwap):
      Self.puts.increment()
      return await counted(request) { await put(item, compareAndSwap, request, $0) }
    case .get(let target, let salt, let usesOwnStore):
      Self.gets.increment()
      return await counted(request) { await get(target, salt, usesOwnStore, $0) }
    }
  }

  /// Has a request that needs the DHT answered, unless too many are under way.
  private func counted(
    _ request: HTTPServerRequest,
    _ answer: (RequestsInFlight.Place) async -> HTTPServerResponse
  ) async -> HTTPServerResponse {
    do throws(RequestsInFlight.Refusal) {
      return await answer(try requests.enter(GrapeCaller(request)))
    } catch {
      return busy(error, request)
    }
  }

  /// Asks the access policy; a denial is counted, and logged once in a while.
  func may(
    _ right: AccessPolicy.Right, _ key: [UInt8], _ request: HTTPServerRequest
  ) -> Bool {
    guard let access = configuration.access else { return true }
    let name = String(decoding: key, as: UTF8.self)
    if access.decide(right, on: name, by: request.identity).isAllowed { return true }
    deny(right, name, request)
    return false
  }

  private func deny(_ right: AccessPolicy.Right, _ name: String, _ request: HTTPServerRequest) {
    Counter(label: "grenache_denials_total", dimensions: [("right", right.rawValue)]).increment()
    denials.log(right, on: name, by: request.identity, at: request.remoteAddress, logger)
  }

  /// What a caller is told who has named an address that is not his.
  private func foreign(
    _ key: [UInt8], _ address: SocketAddress?, _ request: HTTPServerRequest
  ) -> HTTPServerResponse {
    deny(.announce, "\(String(decoding: key, as: UTF8.self)) at \(address?.ip ?? "")", request)
    return bare(403, Self.notPermitted)
  }

  // MARK: Services

  private func place(
    _ port: UInt16, _ named: SocketAddress?, _ request: HTTPServerRequest
  ) -> AnnouncedPlace {
    AnnouncedPlace(
      port: port, named: named, caller: request.remoteAddress, listener: request.localAddress
    ) { covers(request.identity, $0) }
  }

  private func covers(_ identity: PeerIdentity?, _ address: SocketAddress) -> Bool {
    guard let identity else { return configuration.tls == nil }
    let compact = DHTAddress(address).compact.dropLast(2)
    return identity.names.contains { name in
      if case .ip(let bytes) = name { bytes.elementsEqual(compact) } else { false }
    }
  }

  private func announce(
    _ key: [UInt8], _ port: UInt16, _ address: SocketAddress?, _ request: HTTPServerRequest,
    _ inFlight: RequestsInFlight.Place
  ) async -> HTTPServerResponse {
    let announced = port == 0 ? dhtPort : port
    let caller = GrapeCaller(request).counted
    answers.change(key)
    let outcome: DHTDeliveryOutcome?
    switch place(announced, address, request) {
    case .refused:
      return foreign(key, address, request)
    case .here(let own):
      outcome = await Self.announce(
        key, announced, own, caller, within: configuration.requestTimeout, inFlight,
        driver, on: driver.loop)
    case .elsewhere(let own):
      switch await Self.keep(own, key, caller, driver, on: driver.loop) {
      case .full:
        if shortages.isNew("full") {
          logger.warning("announcements are refused: the store is full")
        }
        return json("ERR_GRAPE_STORE_FULL")
      case .callerLimit:
        outcome = .callerLimit
      case .new, .renewed:
        // Here and nowhere else, by design: that is one, for existing clients take none for a failure.
        outcome = .stored(1)
      }
    }
    answers.change(key)
    // This grape keeps the announcement whatever others do, so that one grape alone works.
    guard case .stored(let stored) = outcome else { return failure(outcome, request) }
    logger.log(
      level: notices.isNew("announced \(text(key)) \(announced) \(who(request))") ? .info : .debug,
      "announced",
      metadata: [
        "service": "\(text(key))", "port": "\(announced)", "by": "\(who(request))",
        "storedOn": "\(stored)",
      ])
    return HTTPServerResponse(.ok, body: Array("\(stored)".utf8))
  }

  /// Takes an announcement back: gone here at once, and soon from others that know how to.
  private func withdraw(
    _ key: [UInt8], _ port: UInt16, _ address: SocketAddress?, _ request: HTTPServerRequest,
    _ inFlight: RequestsInFlight.Place
  ) async -> HTTPServerResponse {
    let announced = port == 0 ? dhtPort : port
    answers.change(key)
    let outcome: DHTDeliveryOutcome?
    switch place(announced, address, request) {
    case .refused:
      return foreign(key, address, request)
    case .here(let own):
      outcome = await Self.withdraw(
        key, announced, own, within: configuration.requestTimeout, inFlight, driver,
        on: driver.loop)
    case .elsewhere(let own):
      // Nobody else knows of it: others would take back what this host has announced itself.
      outcome = .stored(await Self.forget(own, key, driver, on: driver.loop) ? 1 : 0)
    }
    answers.change(key)
    guard case .stored(let count) = outcome else { return failure(outcome, request) }
    logger.log(
      level: notices.isNew("withdrawn \(text(key)) \(announced) \(who(request))") ? .info : .debug,
      "withdrawn",
      metadata: [
        "service": "\(text(key))", "port": "\(announced)", "by": "\(who(request))",
        "from": "\(count)",
      ])
    return HTTPServerResponse(.ok, body: Array("\(count)".utf8))
  }

  private func lookup(_ key: [UInt8], _ request: HTTPServerRequest) async -> HTTPServerResponse {
    let (known, changes) = answers.peers(of: key)
    if let known {
      Self.cached.increment()
      return list(known.addresses(HostView(request)))
    }
    return await counted(request) { place in
      let start = MonotonicTime.now()
      let found = await Self.lookUp(
        key, within: configuration.requestTimeout, patience: configuration.lookupPatience, place,
        driver, on: driver.loop)
      guard let found else { return unanswered(key) }
      return list(keep(found, of: key, since: changes, from: start, request))
    }
  }

  /// Remembers what a lookup has found, for a moment; returns the first hundred peers, which are every
  /// source's share.
  func keep(
    _ found: GrapeLookup, of key: [UInt8], since changes: UInt64, from start: MonotonicTime,
    _ request: HTTPServerRequest
  ) -> [String] {
    let peers = found.peers.addresses(HostView(request))
    answers.keep(found, of: key, since: changes)
    let result = found.result
    let took = (MonotonicTime.now() - start).milliseconds
    // As many as anybody likes to ask for: not what a log holds by default.
    logger.debug(
      "looked up",
      metadata: [
        "service": "\(text(key))", "by": "\(who(request))", "found": "\(peers.count)",
        "hops": "\(result.hops)",
        "asked": "\(result.nodes.prefix(8).map(\.address.description))",
        "ms": "\((took * 100).rounded() / 100)",
      ])
    return peers
  }

  /// What a caller is told whose lookup has found nobody and has not ended: that is not nobody, and the
  /// next grape may know more (503).
  private func unanswered(_ key: [UInt8]) -> HTTPServerResponse {
    if shortages.isNew("lookup timeout") {
      logger.notice("a lookup has not ended in time", metadata: ["service": "\(text(key))"])
    }
    return bare(503, "ERR_GRAPE_LOOKUP_TIMEOUT")
  }

  private func list(_ peers: [String]) -> HTTPServerResponse {
    HTTPServerResponse(.ok, body: Self.array(of: peers.shuffled()))
  }

  /// Addresses as a JSON array.
  static func array(of peers: some Sequence<String>) -> [UInt8] {
    var body: [UInt8] = [UInt8(ascii: "[")]
    for peer in peers {
      if body.count > 1 { body.append(UInt8(ascii: ",")) }
      body.append(UInt8(ascii: "\""))
      body.append(contentsOf: peer.utf8)
      body.append(UInt8(ascii: "\""))
    }
    body.append(UInt8(ascii: "]"))
    return body
  }

  // MARK: Values

  private func put(
    _ item: DHTItem, _ compareAndSwap: Int64?, _ request: HTTPServerRequest,
    _ place: RequestsInFlight.Place
  ) async -> HTTPServerResponse {
    // Nobody would keep it: existing grapes find that out by nobody's answer.
    if item.signature != nil, !item.isSigned(.openSSL) { return failure(.allFailed, request) }
    let outcome = await Self.put(
      item, compareAndSwap, GrapeCaller(request).counted, within: configuration.requestTimeout,
      place, driver, on: driver.loop)
    let target = Digest.hex(item.target(.openSSL))
    guard case .stored(let stored) = outcome else { return failure(outcome, request) }
    logger.debug(
      "put",
      metadata: ["target": "\(target)", "by": "\(who(request))", "storedOn": "\(stored)"])
    return json(target)
  }

  private func get(
    _ target: [UInt8], _ salt: [UInt8]?, _ usesOwnStore: Bool, _ place: RequestsInFlight.Place
  ) async -> HTTPServerResponse {
    let found = await Self.get(
      target, salt ?? [], usesOwnStore, within: configuration.requestTimeout, place, driver,
      on: driver.loop)
    guard let found else { return HTTPServerResponse(.ok) }
    return HTTPServerResponse(.ok, body: Array(GrapeValue.json(found, salt: salt).utf8))
  }

  // MARK: Answers

  /// What existing grapes say when nobody has stored something.
  private func failure(
    _ outcome: DHTDeliveryOutcome?, _ request: HTTPServerRequest
  ) -> HTTPServerResponse {
    switch outcome {
    case .callerLimit:
      Self.refusals.increment()
      if shortages.isNew("limit \(who(request))") {
        logger.notice(
          "refused: a caller has as many announcements as it may",
          metadata: ["by": "\(who(request))"])
      }
      return json("ERR_GRAPE_CALLER_LIMIT")
    case .noNodes:
      return json("No nodes to query")
    case .refused(let error):
      var response = json("\(error.code) \(error.message)")
      response.status = HTTPStatus(code: error == .casMismatch ? 301 : 302)
      return response
    case .storeLimit(let error):
      if shortages.isNew("limit of other nodes \(error.code)") {
        logger.notice(
          "other nodes refuse to store more",
          metadata: ["code": "\(error.code)", "reason": "\(error.message)"])
      }
      return json("All queries failed")
    case .stored, .allFailed, nil:
      return json("All queries failed")
    }
  }

  /// What a caller is told for whom the DHT is not asked now; the next grape may have room (503).
  func busy(
    _ refusal: RequestsInFlight.Refusal, _ request: HTTPServerRequest
  ) -> HTTPServerResponse {
    Self.refusals.increment()
    let (limit, status, text) =
      switch refusal {
      case .callerLimit: ("caller", 429, "ERR_GRAPE_CALLER_LIMIT")
      case .overloaded: ("grape", 503, "ERR_GRAPE_OVERLOADED")
      }
    Counter(label: "grenache_grape_overload_refusals_total", dimensions: [("limit", limit)])
      .increment()
    if shortages.isNew("busy \(limit) \(who(request))") {
      logger.notice(
        "refused: too many requests are under way",
        metadata: ["limit": "\(limit)", "by": "\(who(request))"])
    }
    return bare(status, text)
  }

  func json(_ text: String) -> HTTPServerResponse {
    HTTPServerResponse(.ok, body: Array(GrapeValue.quoted(text).utf8))
  }

  func bare(_ status: Int, _ text: String) -> HTTPServerResponse {
    HTTPServerResponse(HTTPStatus(code: status), body: Array(text.utf8))
  }

  func text(_ key: [UInt8]) -> String {
    String(decoding: key.prefix(200), as: UTF8.self).quotedForLog
  }

  func who(_ request: HTTPServerRequest) -> String {
    (request.identity?.displayName ?? "\(request.remoteAddress)").quotedForLog
  }
}

extension GrapeRequest {
  /// What has to be allowed: of values, the key is the target in hexadecimal digits.
  fileprivate var right: (AccessPolicy.Right, [UInt8]) {
    switch self {
    case .announce(let key, _, _), .withdraw(let key, _, _): (.announce, key)
    case .lookup(let key): (.lookup, key)
    case .put(let item, _): (.put, Array(Digest.hex(item.target(.openSSL)).utf8))
    case .get(let target, _, _): (.lookup, Array(Digest.hex(target).utf8))
    }
  }
}
