internal import Foundation
internal import GrenacheAccess
internal import GrenacheDHT
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport
internal import Logging
internal import Metrics

/// The HTTP API of a grape, byte for byte as existing clients know it.
struct GrapeAPI: Sendable {
  /// Addresses in one answer.
  static let lookupResultsMax = 100

  let driver: LoopBound<DHTDriver>
  let configuration: GrapeConfiguration
  let dhtPort: UInt16
  /// The address under which announcements are kept here; `nil` for that of the request's connection.
  let ownHost: SocketAddress.Host?
  let logger: Logger

  /// The answer to what the access policy does not allow.
  private static let notPermitted = "ERR_GRAPE_NOT_PERMITTED"
  private static let announces = Counter(label: "grenache_grape_announces_total")
  private static let lookups = Counter(label: "grenache_grape_lookups_total")
  private static let refusals = Counter(label: "grenache_grape_refused_requests_total")

  func respond(to request: HTTPServerRequest) async -> HTTPServerResponse {
    guard request.body.count <= configuration.payloadBytesMax else {
      return bare(413, "ERR_GRAPE_PAYLOAD_SIZE")
    }
    switch GrapeRequest.parse(target: request.target, body: request.body) {
    case .success(.announce(let key, _)) where !may(.announce, key, request):
      return bare(403, Self.notPermitted)
    case .success(.lookup(let key)) where !may(.lookup, key, request):
      return bare(403, Self.notPermitted)
    case .success(.announce(let key, let port)):
      Self.announces.increment()
      return await announce(key, port, request)
    case .success(.lookup(let key)):
      Self.lookups.increment()
      return await lookup(key, request)
    case .failure(.error(let text)):
      Self.refusals.increment()
      return json(text)
    case .failure(.failure(let status, let text)):
      Self.refusals.increment()
      return bare(status, text)
    }
  }

  /// Asks the access policy; a denial is counted and logged.
  private func may(
    _ right: AccessPolicy.Right, _ key: [UInt8], _ request: HTTPServerRequest
  ) -> Bool {
    guard let access = configuration.access else { return true }
    let name = String(decoding: key, as: UTF8.self)
    if access.decide(right, on: name, by: request.identity).isAllowed { return true }
    Counter(label: "grenache_denials_total", dimensions: [("right", right.rawValue)]).increment()
    logger.notice(
      "denied: no rule of the access policy allows it",
      metadata: ["right": "\(right.rawValue)", "service": "\(text(key))", "by": "\(who(request))"])
    return false
  }

  // MARK: Operations

  private func announce(
    _ key: [UInt8], _ port: UInt16, _ request: HTTPServerRequest
  ) async -> HTTPServerResponse {
    let announced = port == 0 ? dhtPort : port
    let host = ownHost ?? request.localAddress?.unmapped.host ?? .ipv4(127, 0, 0, 1)
    let own = DHTAddress(SocketAddress(host: host, port: announced))
    let outcome = await Self.announce(
      key, announced, own, within: configuration.requestTimeout, driver, on: driver.loop)
    let stored: Int
    switch outcome {
    case .stored(let count): stored = count
    // This grape keeps the announcement all the same, so that one grape alone works.
    case .noNodes: return json("No nodes to query")
    case .allFailed, .refused, nil: return json("All queries failed")
    }
    logger.info(
      "announced",
      metadata: [
        "service": "\(text(key))", "port": "\(announced)", "by": "\(who(request))",
        "storedOn": "\(stored)",
      ])
    return HTTPServerResponse(.ok, body: Array("\(stored)".utf8))
  }

  private func lookup(_ key: [UInt8], _ request: HTTPServerRequest) async -> HTTPServerResponse {
    let start = MonotonicTime.now()
    let found = await Self.lookUp(
      key, within: configuration.requestTimeout, driver, on: driver.loop)
    let peers = (found?.peers ?? []).shuffled().prefix(Self.lookupResultsMax)
    let took = (MonotonicTime.now() - start).milliseconds
    logger.info(
      "looked up",
      metadata: [
        "service": "\(text(key))", "by": "\(who(request))", "found": "\(peers.count)",
        "hops": "\(found?.hops ?? 0)",
        "asked": "\((found?.nodes ?? []).prefix(8).map(\.address.description))",
        "ms": "\((took * 100).rounded() / 100)",
      ])
    let list = peers.map { "\"\($0)\"" }.joined(separator: ",")
    return HTTPServerResponse(.ok, body: Array("[\(list)]".utf8))
  }

  private static func announce(
    _ key: [UInt8], _ port: UInt16, _ own: DHTAddress?, within timeout: Duration,
    _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    await driver.get(on: loop).announce(
      key, port: port, ownAddress: own, by: .now() + timeout, on: loop)
  }

  private static func lookUp(
    _ key: [UInt8], within timeout: Duration, _ driver: LoopBound<DHTDriver>,
    on loop: isolated EventLoop
  ) async -> DHTLookupResult? {
    await driver.get(on: loop).lookUp(key, by: .now() + timeout, on: loop)
  }

  // MARK: Answers

  private func json(_ text: String) -> HTTPServerResponse {
    let escaped = text.replacingOccurrences(of: "\\", with: "\\\\")
      .replacingOccurrences(of: "\"", with: "\\\"")
    return HTTPServerResponse(.ok, body: Array("\"\(escaped)\"".utf8))
  }

  private func bare(_ status: Int, _ text: String) -> HTTPServerResponse {
    HTTPServerResponse(HTTPStatus(code: status), body: Array(text.utf8))
  }

  private func text(_ key: [UInt8]) -> String {
    String(decoding: key.prefix(200), as: UTF8.self)
  }

  private func who(_ request: HTTPServerRequest) -> String {
    request.identity?.displayName ?? "\(request.remoteAddress)"
  }
}
