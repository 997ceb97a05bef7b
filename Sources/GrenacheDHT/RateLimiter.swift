/// Counts what strangers ask for, second by second: who sends too much is not answered, and nobody
/// can have a third party flooded with answers (P30).
///
/// Contacts are counted apart, of whom there are only so many: however many addresses a flood is forged
/// from, they are answered.
struct RateLimiter: Sendable {
  private struct Count: Sendable {
    var queries = 0
    /// Bytes answered beyond what the queries justify.
    var extraBytes = 0
  }

  private let configuration: DHTConfiguration
  private var contacts: [DHTHost: Count] = [:]
  private var contactExtraBytes = 0
  private var hosts: [DHTHost: Count] = [:]
  private var prefixes: [UInt64: Count] = [:]
  private var strangerExtraBytes = 0
  /// What all strangers share that came when there was no room to count another.
  private var others = Count()
  private var windowEnd = Duration.zero
  /// Until when who has echoed a token is taken to be where it says: an address can be forged, and what
  /// was sent there only be guessed.
  private var proven: [DHTHost: Duration] = [:]
  /// How often a full table of them is looked through for what has expired.
  static let sweepInterval = Duration.seconds(1)
  private var nextSweep = Duration.zero

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  /// Whether a query is to be answered.
  mutating func admits(_ host: DHTHost, isContact: Bool, now: Duration) -> Bool {
    guard !host.isLoopback else { return true }
    startWindow(now)
    if isContact {
      contacts[host, default: Count()].queries += 1
      return contacts[host, default: Count()].queries <= configuration.queriesPerSecondOfContactMax
    }
    let queries = change(host) { count in
      count.queries += 1
      return count.queries
    }
    guard queries <= configuration.queriesPerSecondMax else { return false }
    guard countsPrefix(of: host) else { return true }
    prefixes[host.prefix, default: Count()].queries += 1
    return prefixes[host.prefix, default: Count()].queries
      <= configuration.queriesPerSecondOfPrefixMax
  }

  /// A valid token has come from a contact there.
  mutating func tokenReceived(from host: DHTHost, now: Duration) {
    guard !host.isLoopback else { return }
    if proven.count >= configuration.countedAddressesMax, proven[host] == nil {
      guard now >= nextSweep else { return }
      nextSweep = now + Self.sweepInterval
      proven = proven.filter { $0.value > now }
      guard proven.count < configuration.countedAddressesMax else { return }
    }
    proven[host] = now + configuration.tokenProofAge
  }

  /// How many bytes an answer may have.
  ///
  /// Contacts that have lately echoed a token have more to spend: whoever knows where one is could ask
  /// in its name, but not without having seen what was sent there.
  mutating func allowance(
    _ host: DHTHost, isContact: Bool, queryBytes: Int, now: Duration
  ) -> Int {
    startWindow(now)
    var extra = configuration.unprovenExtraBytesPerSecond
    if isContact {
      if let end = proven[host], end > now { extra = configuration.contactExtraBytesPerSecond }
      extra -= contacts[host]?.extraBytes ?? 0
      extra = min(extra, configuration.contactExtraBytesPerSecondOfAll - contactExtraBytes)
    } else {
      extra -= change(host) { $0.extraBytes }
      let ofPrefix = prefixes[host.prefix]?.extraBytes ?? 0
      extra = min(
        extra, configuration.unprovenExtraBytesPerSecondOfPrefix - ofPrefix,
        configuration.unprovenExtraBytesPerSecondOfAll - strangerExtraBytes)
    }
    return queryBytes * configuration.amplificationMax + max(0, extra)
  }

  /// An answer has been sent.
  mutating func spend(_ host: DHTHost, isContact: Bool, answerBytes: Int, queryBytes: Int) {
    let extra = max(0, answerBytes - queryBytes * configuration.amplificationMax)
    guard extra > 0 else { return }
    if isContact {
      contactExtraBytes += extra
      contacts[host, default: Count()].extraBytes += extra
      return
    }
    strangerExtraBytes += extra
    change(host) { $0.extraBytes += extra }
    if countsPrefix(of: host) { prefixes[host.prefix, default: Count()].extraBytes += extra }
  }

  private mutating func startWindow(_ now: Duration) {
    guard now >= windowEnd else { return }
    windowEnd = now + .seconds(1)
    if !contacts.isEmpty { contacts.removeAll(keepingCapacity: true) }
    if !hosts.isEmpty { hosts.removeAll(keepingCapacity: hosts.count > 64) }
    if !prefixes.isEmpty { prefixes.removeAll(keepingCapacity: prefixes.count > 64) }
    others = Count()
    (contactExtraBytes, strangerExtraBytes) = (0, 0)
  }

  private func countsPrefix(of host: DHTHost) -> Bool {
    prefixes.count < configuration.countedAddressesMax || prefixes[host.prefix] != nil
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
