internal import GrenacheTLS
internal import GrenacheTransport

/// Where a subscriber is in what one publisher says, connected or not.
struct PublisherPlace {
  var cursor: PublisherCursor
  /// Whether what was said meanwhile is missing and nobody can say what it was: it numbers nothing.
  var mayMiss = false
  /// Whether the subscriber has been told already that nobody knows what the run said at last.
  var isEndTold = false
  /// The number from which on the run has come, or was said to be missing.
  var firstNumber: UInt64 = 1
  /// Who it was that said the run's name.
  var identity: PeerIdentity?

  init(hasTopics: Bool) {
    cursor = PublisherCursor(hasTopics: hasTopics)
  }

  /// Whether anything is known of it.
  var isKnown: Bool { cursor.epoch != nil || mayMiss }

  /// Whether that is a run of the same publisher, as far as the names say: the part before the first dot
  /// is the publisher's, whichever of its loops has the connection. Nobody takes the place of another one
  /// by using its name.
  func isSamePublisher(as run: String, _ identity: PeerIdentity?) -> Bool {
    guard let epoch = cursor.epoch, Self.publisher(of: epoch) == Self.publisher(of: run) else {
      return false
    }
    guard let known = self.identity, let identity else { return self.identity == identity }
    return known.publicKeySHA256 == identity.publicKeySHA256
      || !known.names.isEmpty && known.names == identity.names
  }

  private static func publisher(of run: String) -> Substring { run.prefix { $0 != "." } }
}

/// The places of publishers that have been given up, the last so many: one that comes back goes on there.
struct AbsentPublishers {
  let countMax: Int
  private var places: [(endpoint: Endpoint, place: PublisherPlace)] = []

  init(countMax: Int) { self.countMax = countMax }

  var count: Int { places.count }

  mutating func keep(_ place: PublisherPlace, of endpoint: Endpoint) {
    guard place.isKnown, countMax > 0 else { return }
    places.removeAll { $0.endpoint == endpoint }
    places.append((endpoint, place))
    if places.count > countMax { places.removeFirst() }
  }

  /// The place of the publisher that was at that address.
  mutating func take(_ endpoint: Endpoint) -> PublisherPlace? {
    places.firstIndex { $0.endpoint == endpoint }.map { places.remove(at: $0).place }
  }

  /// The place of a publisher, wherever it was.
  mutating func take(run: String, _ identity: PeerIdentity?) -> PublisherPlace? {
    places.lastIndex { $0.place.isSamePublisher(as: run, identity) }
      .map { places.remove(at: $0).place }
  }
}
