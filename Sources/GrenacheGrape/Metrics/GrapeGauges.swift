internal import GrenacheDHT
internal import Metrics

/// The state of a grape's DHT as metrics.
enum GrapeGauges {
  private static let contacts = Meter(label: "grenache_dht_contacts")
  private static let keys = Meter(label: "grenache_dht_services")
  private static let announcements = Meter(label: "grenache_dht_announcements")
  private static let values = Meter(label: "grenache_dht_values")
  private static let queriesReceived = Meter(label: "grenache_dht_queries_received")
  private static let queriesSent = Meter(label: "grenache_dht_queries_sent")
  private static let timeouts = Meter(label: "grenache_dht_timeouts")
  private static let unexpected = Meter(label: "grenache_dht_unexpected_responses")

  static func record(
    _ counts: (contacts: Int, keys: Int, announcements: Int, values: Int),
    _ statistics: DHTStatistics
  ) {
    contacts.set(counts.contacts)
    keys.set(counts.keys)
    announcements.set(counts.announcements)
    values.set(counts.values)
    queriesReceived.set(statistics.queriesReceived)
    queriesSent.set(statistics.queriesSent)
    timeouts.set(statistics.timeouts)
    unexpected.set(statistics.unexpectedResponses)
    for (reason, count) in statistics.dropped {
      Meter(label: "grenache_dht_dropped_datagrams", dimensions: [("reason", reason)]).set(count)
    }
    for (code, count) in statistics.errorsSent {
      Meter(label: "grenache_dht_errors_sent", dimensions: [("code", "\(code)")]).set(count)
    }
  }
}
