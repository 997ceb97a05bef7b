package import GrenacheIO
package import GrenacheTransport

/// The results of lookups, for a while, up to a number.
package struct LookupCache {
  private struct Entry {
    var endpoints: [Endpoint]
    var expiry: MonotonicTime
  }
  private var entries: [String: Entry] = [:]
  private let age: Duration
  private let entriesMax: Int

  package init(age: Duration, entriesMax: Int) {
    self.age = age
    self.entriesMax = entriesMax
  }

  var count: Int { entries.count }

  /// - Parameter staleBy: how much too old the result may be.
  package func endpoints(
    of service: String, at now: MonotonicTime, staleBy: Duration = .zero
  ) -> [Endpoint]? {
    guard let entry = entries[service], entry.expiry + staleBy > now else { return nil }
    return entry.endpoints
  }

  /// Keeps `endpoints`; an empty result is not kept, so that a new worker is seen at once.
  package mutating func store(_ endpoints: [Endpoint], of service: String, at now: MonotonicTime) {
    guard !endpoints.isEmpty, entriesMax > 0 else {
      entries[service] = nil
      return
    }
    if entries.count >= entriesMax, entries[service] == nil { makeRoom(at: now) }
    entries[service] = Entry(endpoints: endpoints, expiry: now + age)
  }

  /// Has what is known of `service` count as too old from now on.
  package mutating func expire(_ service: String, at now: MonotonicTime) {
    guard let entry = entries[service], entry.expiry > now else { return }
    entries[service]?.expiry = now
  }

  /// Drops what has expired; when that is nothing, the entry that expires first.
  private mutating func makeRoom(at now: MonotonicTime) {
    let before = entries.count
    entries = entries.filter { $0.value.expiry > now }
    guard entries.count == before else { return }
    if let oldest = entries.min(by: { $0.value.expiry < $1.value.expiry }) {
      entries[oldest.key] = nil
    }
  }
}
