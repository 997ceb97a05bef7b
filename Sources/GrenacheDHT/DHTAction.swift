/// What a node wants done, or tells.
package enum DHTAction: Sendable {
  case send([UInt8], to: DHTAddress)
  /// A lookup has found some peers, and goes on. Some may have been told before.
  case peersFound(DHTRequestID, [DHTAddress])
  case lookupFinished(DHTRequestID, DHTLookupResult)
  /// An announcement, a withdrawal or a put is over.
  case deliveryFinished(DHTRequestID, DHTDeliveryOutcome)
  case getFinished(DHTRequestID, DHTGetResult?)
  /// What this node stores of a key has changed: somebody new, or somebody gone.
  case peersChanged(key: [UInt8])
  /// Announcements of `key` are kept for longer.
  case peersRenewed(key: [UInt8])
  /// A value has been stored, or a newer one in its place.
  case itemStored(target: [UInt8])
  /// A value is kept no more: it has expired, made room, or somebody has something newer.
  case itemRemoved(target: [UInt8])
  /// The node bears another identifier from now on (BEP 42).
  case identifierChanged(DHTFamily)
}

/// Something that somebody waits for.
package struct DHTRequestID: Hashable, Sendable {
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
  /// Whether it was found by an earlier lookup.
  package var isCached = false
  /// Whether queries could not be sent, for too many are under way, or the lookup goes on: what is missing
  /// means nothing.
  package var isIncomplete = false
}

/// An item and who had it.
package struct DHTGetResult: Hashable, Sendable {
  package var item: DHTItem
  package var id: NodeID
  /// The token of the node that had it; `nil` for this node itself.
  package var token: [UInt8]?
}

/// What has become of an announcement that the node itself is to keep.
package enum DHTKeepOutcome: Hashable, Sendable {
  case new
  case renewed
  /// There is no room for it.
  case full
  /// Its caller has as many here as it may have.
  case callerLimit
}

/// What has become of something that other nodes are to store.
package enum DHTDeliveryOutcome: Hashable, Sendable {
  /// So many other nodes have done it.
  case stored(Int)
  /// There is no other node to do it.
  case noNodes
  /// No node has done it.
  case allFailed
  /// No node has done it, and those who say why have no room for it, or none for more of this address
  /// (202, 201).
  case storeLimit(KRPCErrorCode)
  /// This caller has as many announcements here as it may have; nobody was asked.
  case callerLimit
  /// There is something newer, or not what was expected (BEP 44: 301, 302), and nobody has stored it.
  /// The code is one of these two.
  case refused(KRPCErrorCode)
}

/// What a node counts.
package struct DHTStatistics: Hashable, Sendable {
  package var queriesReceived = 0
  package var responsesReceived = 0
  package var queriesSent = 0
  package var timeouts = 0
  package var lookupsStarted = 0
  package var lookupsFromCache = 0
  /// Lookups of peers that have ended, and how many nodes, one after the other, led to each one's last
  /// answer: all together, and the most.
  package var peerLookupsFinished = 0
  package var hopsTotal = 0
  package var hopsMax = 0
  /// Responses that nobody waits for, or that come from elsewhere.
  package var unexpectedResponses = 0
  /// Queries answered with an error, by its code.
  package var errorsSent: [Int64: Int] = [:]
  /// Datagrams dropped without an answer, by reason.
  package var dropped: [String: Int] = [:]

  package init() {}
}
