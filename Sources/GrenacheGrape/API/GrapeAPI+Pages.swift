internal import GrenacheDHT
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// What a grape shows to those who run it: paths that existing grapes do not know, and that take no body.
/// Whoever may connect may read them; they tell nothing about who has announced what.
extension GrapeAPI {
  /// The page of a path; `nil` for other paths.
  func page(_ request: HTTPServerRequest) async -> HTTPServerResponse? {
    switch request.target {
    case "/healthz/live":
      return typed(.ok, "{\"live\":true}", "application/json")
    case "/healthz", "/healthz/ready":
      let isReady = await Self.isReady(configuration, driver, on: driver.loop)
      return typed(
        isReady ? .ok : .serviceUnavailable, "{\"live\":true,\"ready\":\(isReady)}",
        "application/json")
    case "/status":
      let status = await Self.status(driver, on: driver.loop)
      return typed(.ok, status, "application/json")
    case "/nodes":
      let nodes = await Self.nodes(driver, on: driver.loop)
      return typed(.ok, nodes, "application/json")
    case "/metrics":
      await Self.recordGauges(driver, on: driver.loop)
      return typed(.ok, configuration.metrics(), "text/plain; version=0.0.4")
    default:
      return nil
    }
  }

  private func typed(
    _ status: HTTPStatus, _ body: String, _ type: String
  ) -> HTTPServerResponse {
    HTTPServerResponse(status, fields: [("Content-Type", type)], body: Array(body.utf8))
  }

  /// A grape that is to find others is ready once it knows one.
  private static func isReady(
    _ configuration: GrapeConfiguration, _ driver: LoopBound<DHTDriver>,
    on loop: isolated EventLoop
  ) -> Bool {
    configuration.bootstrap.isEmpty || driver.get(on: loop).counts.contacts > 0
  }

  private static func status(
    _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) -> String {
    let driver = driver.get(on: loop)
    let counts = driver.counts
    let statistics = driver.statistics
    let dropped = statistics.dropped.sorted { $0.key < $1.key }.map { "\"\($0)\":\($1)" }
    let errors = statistics.errorsSent.sorted { $0.key < $1.key }.map { "\"\($0)\":\($1)" }
    let hopsMean =
      Double(statistics.hopsTotal) / Double(max(1, statistics.peerLookupsFinished))
    return """
      {"id":"\(driver.nodeID)","dht":"\(driver.localAddress)","contacts":\(counts.contacts),\
      "services":\(counts.keys),"announcements":\(counts.announcements),\
      "values":\(counts.values),"queriesReceived":\(statistics.queriesReceived),\
      "queriesSent":\(statistics.queriesSent),\
      "responsesReceived":\(statistics.responsesReceived),"timeouts":\(statistics.timeouts),\
      "lookups":\(statistics.lookupsStarted),\
      "lookupsFinished":\(statistics.peerLookupsFinished),"hopsMean":\(hopsMean),\
      "hopsMax":\(statistics.hopsMax),"unexpected":\(statistics.unexpectedResponses),\
      "errorsSent":{\(errors.joined(separator: ","))},\
      "dropped":{\(dropped.joined(separator: ","))}}
      """
  }

  private static func nodes(
    _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) -> String {
    let nodes = driver.get(on: loop).contacts.map {
      "{\"id\":\"\($0.id)\",\"address\":\"\($0.address)\"}"
    }
    return "[\(nodes.joined(separator: ","))]"
  }

  /// What is not counted as it happens is measured when somebody asks.
  private static func recordGauges(
    _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) {
    driver.get(on: loop).recordMetrics()
  }
}
