internal import GrenacheDHT
internal import Metrics

/// The state of a grape's DHT as metrics.
enum GrapeGauges {
  private static let contacts = Meter(label: "grenache_dht_contacts")
  private static let keys = Meter(label: "grenache_dht_services")
  private static let announcements = Meter(label: "grenache_dht_announcements")
  private static let values = Meter(label: "grenache_dht_values")
  private static let queriesReceived = Counter(label: "grenache_dht_queries_received_total")
  private static let queriesSent = Counter(label: "grenache_dht_queries_sent_total")
  private static let timeouts = Counter(label: "grenache_dht_timeouts_total")
  private static let unexpected = Counter(label: "grenache_dht_unexpected_responses_total")
  private static let unsent = Counter(label: "grenache_dht_unsent_datagrams_total")
  private static let lookups = Counter(label: "grenache_dht_peer_lookups_total")
  private static let hops = Counter(label: "grenache_dht_peer_lookup_hops_total")

  static func record(_ counts: (contacts: Int, keys: Int, announcements: Int, values: Int)) {
    contacts.set(counts.contacts)
    keys.set(counts.keys)
    announcements.set(counts.announcements)
    values.set(counts.values)
  }

  /// Adds datagrams that the system has not taken.
  static func add(unsent count: Int) {
    unsent.increment(by: count)
  }

  /// Adds what has been counted between two looks at a node.
  static func add(_ now: DHTStatistics, since before: DHTStatistics) {
    queriesReceived.increment(by: now.queriesReceived - before.queriesReceived)
    queriesSent.increment(by: now.queriesSent - before.queriesSent)
    timeouts.increment(by: now.timeouts - before.timeouts)
    unexpected.increment(by: now.unexpectedResponses - before.unexpectedResponses)
    lookups.increment(by: now.peerLookupsFinished - before.peerLookupsFinished)
    hops.increment(by: now.hopsTotal - before.hopsTotal)
    for (reason, count) in now.dropped {
      Counter(label: "grenache_dht_dropped_datagrams_total", dimensions: [("reason", reason)])
        .increment(by: count - (before.dropped[reason] ?? 0))
    }
    for (code, count) in now.errorsSent {
      Counter(label: "grenache_dht_errors_sent_total", dimensions: [("code", "\(code)")])
        .increment(by: count - (before.errorsSent[code] ?? 0))
    }
  }
}
