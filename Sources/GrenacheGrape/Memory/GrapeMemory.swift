internal import GrenacheDHT

/// What a grape writes down, so that it is itself again after it was started anew.
struct GrapeMemory: Sendable {
  var ids: DHTNodeIDs
  var contacts: [DHTContact]
  /// The announcements of the keys that have changed.
  var peers: [DHTNode.KeptPeer]
  var changedKeys: [[UInt8]] = []
  /// Whether `peers` are all that there are.
  var replacesPeers = false
  var items: [DHTNode.KeptItem]
  /// The targets of values that are kept no more.
  var removedItems: [[UInt8]] = []
  /// Whether `items` are all that there are.
  var replacesItems = false

  /// Whether anything but contacts is to be written down.
  var hasNews: Bool {
    replacesPeers || !changedKeys.isEmpty || replacesItems || !items.isEmpty
      || !removedItems.isEmpty
  }

  func restore(to node: inout DHTNode, now: Duration) {
    for peer in peers { node.restore(peer, now: now) }
    for item in items { node.restore(item, now: now) }
    node.restore(contacts, now: now)
  }
}
