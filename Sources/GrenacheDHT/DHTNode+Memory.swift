/// What a node that starts anew takes over from before, and what is worth keeping.
extension DHTNode {
  /// An announcement in the store, and how long it is still good.
  package struct KeptPeer: Hashable, Sendable {
    package var key: [UInt8]
    package var peer: DHTAddress
    package var remaining: Duration
    /// Whether one of this node's own callers has announced it, and which, if they are counted.
    package var isOwn: Bool
    package var caller: DHTCaller?

    package init(
      key: [UInt8], peer: DHTAddress, remaining: Duration, isOwn: Bool = false,
      caller: DHTCaller? = nil
    ) {
      self.key = key
      self.peer = peer
      self.remaining = remaining
      self.isOwn = isOwn
      self.caller = caller
    }
  }

  /// A value in the store.
  package struct KeptItem: Hashable, Sendable {
    package var target: [UInt8]
    package var item: DHTItem
    package var remaining: Duration
    /// Whether this node keeps it alive.
    package var isOwn: Bool
    /// For whom it is counted, as far as that is known: another host, or one of this node's own callers.
    package var owner: DHTHost?
    package var caller: DHTCaller?

    package init(
      target: [UInt8], item: DHTItem, remaining: Duration, isOwn: Bool, owner: DHTHost? = nil,
      caller: DHTCaller? = nil
    ) {
      self.target = target
      self.item = item
      self.remaining = remaining
      self.isOwn = isOwn
      self.owner = owner
      self.caller = caller
    }
  }

  package func peers(at now: Duration) -> [KeptPeer] {
    store.all.map { KeptPeer($0.key, $0.peer, $0.entry, now: now) }
  }

  /// The announcements of one key.
  package func peers(of key: [UInt8], at now: Duration) -> [KeptPeer] {
    store.announcements(of: key).compactMap { peer, entry in
      entry.expiry > now ? KeptPeer(key, peer, entry, now: now) : nil
    }
  }

  /// One item of the store.
  package func item(_ target: [UInt8], now: Duration) -> KeptItem? {
    guard let entry = items[target], entry.expiry > now else { return nil }
    return KeptItem(
      target: target, item: entry.item, remaining: entry.expiry - now,
      isOwn: entry.republishAt != nil, owner: entry.owner, caller: entry.caller)
  }

  package var itemTargets: [[UInt8]] { items.all.map(\.target) }

  /// Takes over an announcement; what is over, or for what there is no room, is left out.
  package mutating func restore(_ kept: KeptPeer, now: Duration) {
    guard kept.remaining > .zero else { return }
    let end = now + min(kept.remaining, configuration.peerAgeMax)
    if kept.isOwn {
      _ = try? store.insertOwn(kept.peer, for: kept.key, by: kept.caller, now: now, until: end)
    } else {
      // Whoever was a contact had more: what was kept once is.
      _ = try? store.insert(kept.peer, for: kept.key, isContact: true, now: now, until: end)
    }
  }

  /// Takes over a value, if it is what its target says; one for which there is no room pushes another
  /// out, which `itemRemoved` tells.
  package mutating func restore(_ kept: KeptItem, now: Duration) {
    guard kept.remaining > .zero, kept.item.target(cryptography) == kept.target else {
      return removed([kept.target])
    }
    do {
      let evicted = try items.insert(
        kept.item, at: kept.target, owner: kept.owner, by: kept.caller, compareAndSwap: nil,
        now: now, until: now + min(kept.remaining, configuration.itemAgeMax))
      removed(evicted)
      guard kept.isOwn else { return }
      // Others may have been started anew, too: they are told as soon as some are known, a few at a time.
      let yielded = items.keepAlive(kept.target, now: now, for: kept.remaining, dueIn: .zero)
      for target in yielded { perform(.itemStored(target: target)) }
    } catch {
      return
    }
  }

  /// Knows contacts as if each had just answered, and has nothing to look for: a node of a network that
  /// has long been there, for simulations.
  package mutating func settle(
    among contacts: [DHTContact], roundTrip: (DHTContact) -> Duration, now: Duration
  ) {
    for contact in contacts {
      tables[contact.address.family].answered(
        contact, roundTrip: roundTrip(contact), now: now)
    }
    for family in DHTFamily.allCases { tables[family].noteFilled() }
  }

  /// Begins with contacts of before: they are asked as bootstrap nodes are, and count once they answer.
  package mutating func restore(_ contacts: [DHTContact], now: Duration) {
    for contact in contacts.prefix(configuration.verificationsMax) { verify(contact, now: now) }
    for contact in contacts.prefix(configuration.bucketSize) { lose(contact) }
  }
}

extension DHTNode.KeptPeer {
  fileprivate init(
    _ key: [UInt8], _ peer: DHTAddress, _ entry: KeyAnnouncements.Entry, now: Duration
  ) {
    self.init(
      key: key, peer: peer, remaining: entry.expiry - now, isOwn: entry.isOwn,
      caller: entry.caller)
  }
}
