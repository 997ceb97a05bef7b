/// Counts what strangers ask for, second by second: who sends too much is not answered, and nobody
/// can have a third party flooded with answers (P30).
struct RateLimiter: Sendable {
  private struct Count: Sendable {
    var queries = 0
    /// Bytes answered beyond what the queries justify.
    var extraBytes = 0
  }

  private let configuration: DHTConfiguration
  private var hosts: [DHTHost: Count] = [:]
  private var prefixes: [UInt64: Int] = [:]
  /// What all addresses share that came when there was no room to count another.
  private var others = Count()
  private var windowEnd = Duration.zero

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  /// Whether a query is to be answered.
  mutating func admits(_ host: DHTHost, isContact: Bool, now: Duration) -> Bool {
    guard !host.isLoopback else { return true }
    startWindow(now)
    let queries = change(host) { count in
      count.queries += 1
      return count.queries
    }
    if isContact { return queries <= configuration.queriesPerSecondOfContactMax }
    guard queries <= configuration.queriesPerSecondMax else { return false }
    guard prefixes.count < configuration.countedAddressesMax || prefixes[host.prefix] != nil
    else { return true }
    prefixes[host.prefix, default: 0] += 1
    return (prefixes[host.prefix] ?? 0) <= configuration.queriesPerSecondOfPrefixMax
  }

  /// How many bytes an answer may have. Contacts have more to spend: they are where they say, but
  /// whoever knows one can ask in its name.
  mutating func allowance(
    _ host: DHTHost, isContact: Bool, queryBytes: Int, now: Duration
  ) -> Int {
    startWindow(now)
    let used = change(host) { $0.extraBytes }
    let extra =
      isContact
      ? configuration.contactExtraBytesPerSecond : configuration.unprovenExtraBytesPerSecond
    return queryBytes * configuration.amplificationMax + max(0, extra - used)
  }

  /// An answer has been sent.
  mutating func spend(_ host: DHTHost, answerBytes: Int, queryBytes: Int) {
    let extra = max(0, answerBytes - queryBytes * configuration.amplificationMax)
    guard extra > 0 else { return }
    change(host) { $0.extraBytes += extra }
  }

  private mutating func startWindow(_ now: Duration) {
    guard now >= windowEnd else { return }
    windowEnd = now + .seconds(1)
    if !hosts.isEmpty { hosts.removeAll(keepingCapacity: hosts.count > 64) }
    if !prefixes.isEmpty { prefixes.removeAll(keepingCapacity: prefixes.count > 64) }
    others = Count()
  }

  private mutating func change<Result>(
    _ host: DHTHost, _ body: (inout Count) -> Result
  ) -> Result {
    guard hosts.count < configuration.countedAddressesMax || hosts[host] != nil else {
      return body(&others)
    }
    return body(&hosts[host, default: Count()])
  }
}
