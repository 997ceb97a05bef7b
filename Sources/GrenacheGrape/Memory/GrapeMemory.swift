internal import GrenacheDHT

/// What a grape writes down, so that it is itself again after it was started anew.
struct GrapeMemory: Sendable {
  var ids: DHTNodeIDs
  var contacts: [DHTContact]
  /// `nil` when they are as they were.
  var peers: [DHTNode.KeptPeer]?
  var items: [DHTNode.KeptItem]
  /// The targets of values that are kept no more.
  var removedItems: [[UInt8]] = []
  /// Whether `items` are all that there are.
  var replacesItems = false

  func restore(to node: inout DHTNode, now: Duration) {
    for peer in peers ?? [] { node.restore(peer, now: now) }
    for item in items { node.restore(item, now: now) }
    node.restore(contacts, now: now)
  }
}
