/// What a node wants done, or tells.
package enum DHTAction: Sendable {
  case send([UInt8], to: DHTAddress)
  case lookupFinished(DHTLookupID, DHTLookupResult)
  case announceFinished(DHTAnnounceID, DHTAnnounceOutcome)
}

/// A lookup that somebody waits for.
package struct DHTLookupID: Hashable, Sendable {
  let number: UInt64
}

/// An announcement that somebody waits for.
package struct DHTAnnounceID: Hashable, Sendable {
  let number: UInt64
}

/// What a lookup has found.
package struct DHTLookupResult: Hashable, Sendable {
  /// Who has announced the key, this node's own store included.
  package var peers: [DHTAddress]
  /// How many nodes, one after the other, led to the last one that answered.
  package var hops: Int
  /// The nodes that answered.
  package var nodes: [DHTContact]
}

/// What has become of an announcement.
package enum DHTAnnounceOutcome: Hashable, Sendable {
  /// So many other nodes store it.
  case stored(Int)
  /// There is no other node to store it.
  case noNodes
  /// No node has stored it.
  case allFailed
}

/// What a node counts.
package struct DHTStatistics: Hashable, Sendable {
  package var queriesReceived = 0
  package var responsesReceived = 0
  package var queriesSent = 0
  package var timeouts = 0
  /// Responses that nobody waits for, or that come from elsewhere.
  package var unexpectedResponses = 0
  /// Datagrams dropped without an answer, by reason.
  package var dropped: [String: Int] = [:]

  package init() {}
}
