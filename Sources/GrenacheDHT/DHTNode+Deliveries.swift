/// Something that the nodes nearest to a key are to store, or to forget.
struct DeliveryState: Sendable {
  enum Content: Sendable {
    case announce(port: UInt16)
    case withdraw(port: UInt16)
    case put(DHTItem, compareAndSwap: Int64?)

    var isWithdrawal: Bool {
      switch self {
      case .withdraw: true
      case .announce, .put: false
      }
    }
  }
  let id: DHTRequestID
  let key: [UInt8]
  let content: Content
  /// Whether it relies on tokens of an earlier lookup: if they all fail, a new lookup is made.
  var usesKeptTokens: Bool
  var waitingFor: Set<DHTAddress> = []
  /// Those of them who take long: they are waited for until another one has stored it.
  var slow: Set<DHTAddress> = []
  var stored = 0
  var sent = 0
  var refusal: KRPCErrorCode?
  /// What somebody says who has no room for it.
  var limit: KRPCErrorCode?
  /// Whether somebody does not know the token (203): he was started anew.
  var hasStaleTokens = false

  /// The service that it is about.
  var service: AnnouncedService? {
    switch content {
    case .announce(let port), .withdraw(let port): AnnouncedService(key: key, port: port)
    case .put: nil
    }
  }

  /// What an error of a node says about the item that is put; `nil` when it has nothing to say: only a
  /// mutable item can be refused for another that is newer (BEP 44: 301, 302).
  func refusal(_ error: KRPCErrorCode) -> KRPCErrorCode? {
    guard case .put(let item, _) = content, item.signature != nil else { return nil }
    switch error.code {
    case KRPCErrorCode.casMismatch.code: return .casMismatch
    case KRPCErrorCode.sequenceTooLow.code: return .sequenceTooLow
    default: return nil
    }
  }

  /// Why the item cannot be put beside one that was found, whose signature is genuine.
  func refusal(by found: DHTItem?) -> KRPCErrorCode? {
    guard case .put(let item, let compareAndSwap) = content, item != found,
      let old = found?.signature?.sequence, let new = item.signature?.sequence
    else { return nil }
    if let compareAndSwap, compareAndSwap != old { return .casMismatch }
    return new <= old ? .sequenceTooLow : nil
  }

  func query(token: [UInt8]) -> KRPCQuery {
    switch content {
    case .announce(let port):
      .announcePeer(key: key, port: port, impliedPort: false, token: token)
    case .withdraw(let port):
      .withdrawPeer(key: key, port: port, token: token)
    case .put(let item, let compareAndSwap):
      .put(item, compareAndSwap: compareAndSwap, token: token)
    }
  }
}

/// Announcements and puts of a node.
extension DHTNode {
  /// Announces that this host serves `key` on `port`; ends with `deliveryFinished`.
  ///
  /// - Parameter ownAddress: under which address this node itself keeps the announcement: others see it
  ///   by the source of our datagrams, which we cannot. A single grape works by that.
  package mutating func announce(
    _ key: [UInt8], port: UInt16, ownAddress: DHTAddress?, by caller: DHTCaller? = nil,
    now: Duration
  ) -> DHTRequestID {
    if let ownAddress, keep(ownAddress, for: key, by: caller, now: now) == .callerLimit {
      let id = DHTRequestID(number: takeNumber())
      perform(.deliveryFinished(id, .callerLimit))
      return id
    }
    outdateResults(of: key)
    endWithdrawal(ofAnnounced: AnnouncedService(key: key, port: port), now: now)
    return deliver(.announce(port: port), to: key, now: now)
  }

  /// Keeps an announcement in the own store alone.
  package mutating func keep(
    _ peer: DHTAddress, for key: [UInt8], by caller: DHTCaller? = nil, now: Duration
  ) -> DHTKeepOutcome {
    defer { tellSwept() }
    do throws(PeerStore.Refusal) {
      let (isNew, displaced) = try store.insertOwn(peer, for: key, by: caller, now: now)
      for key in displaced + (isNew ? [key] : []) { changed(key) }
      if !isNew { perform(.peersRenewed(key: key)) }
      return isNew ? .new : .renewed
    } catch {
      return error == .callerLimit ? .callerLimit : .full
    }
  }

  /// Forgets an announcement of the own store alone; returns whether there was one.
  package mutating func forget(_ peer: DHTAddress, for key: [UInt8]) -> Bool {
    guard store.remove(peer, for: key) else { return false }
    changed(key)
    return true
  }

  /// Stores an item, here and at the nodes nearest to it, and keeps it alive there for `ownItemAgeMax`;
  /// ends with `deliveryFinished`.
  package mutating func put(
    _ item: DHTItem, compareAndSwap: Int64?, by caller: DHTCaller? = nil, now: Duration
  ) -> DHTRequestID {
    let target = item.target(cryptography)
    do throws(KRPCErrorCode) {
      let stored = items[target].flatMap { $0.expiry > now ? $0.item.signature : nil }
      if let new = item.signature, let old = stored, new.sequence <= old.sequence,
        compareAndSwap == nil || compareAndSwap == old.sequence
      {
        // To keep it alive is this node's business; a caller has to bring something newer.
        throw .sequenceTooLow
      }
      removed(
        try items.insert(
          item, at: target, owner: nil, by: caller, compareAndSwap: compareAndSwap, now: now))
    } catch {
      let id = DHTRequestID(number: takeNumber())
      perform(.deliveryFinished(id, .refused(error)))
      return id
    }
    let yielded = items.keepAlive(target, now: now)
    for target in yielded + [target] { perform(.itemStored(target: target)) }
    return deliver(.put(item, compareAndSwap: compareAndSwap), to: target, now: now)
  }

  mutating func deliver(
    _ content: DeliveryState.Content, to key: [UInt8], now: Duration
  ) -> DHTRequestID {
    let id = DHTRequestID(number: takeNumber())
    let number = takeNumber()
    let kept = !tokenTables.tokens(for: key, now: now).isEmpty
    deliveries[number] = DeliveryState(id: id, key: key, content: content, usesKeptTokens: kept)
    if kept {
      sendDelivery(number, found: nil, now: now)
    } else {
      lookUpTokens(number, now: now)
    }
    return id
  }

  private mutating func lookUpTokens(_ delivery: UInt64, now: Duration) {
    guard let state = deliveries[delivery] else { return }
    let number: UInt64
    if case .put(let item, _) = state.content {
      number = lookup(.item(target: state.key, salt: item.signature?.salt ?? []))
    } else {
      number = lookup(.peers(key: state.key))
    }
    lookups[number]?.deliveries.append(delivery)
    advance(number, now: now)
  }

  /// Sends it to every node whose token is known.
  ///
  /// - Parameter found: the item that the lookup for tokens has come across.
  mutating func sendDelivery(_ number: UInt64, found: DHTItem?, now: Duration) {
    guard var state = deliveries[number] else { return }
    if case .put(let item, _) = state.content, let found, let refusal = state.refusal(by: found) {
      deliveries[number] = nil
      replace(item, at: state.key, with: found, now: now)
      return perform(.deliveryFinished(state.id, .refused(refusal)))
    }
    let tokens = tokenTables.tokens(for: state.key, now: now)
    if case .withdraw = state.content, let service = state.service {
      deliveries[number] = nil
      return withdraw(service, for: state.id, from: tokens, now: now)
    }
    for (contact, token) in tokens {
      let purpose = Transactions.Purpose.delivery(number)
      let query = state.query(token: token)
      if send(query, to: contact.address, id: contact.id, purpose, now: now) {
        state.waitingFor.insert(contact.address)
        state.sent += 1
        if case .announce = state.content {
          tokenTables.noteTold(contact, token, for: state.key, now: now)
        }
      }
    }
    deliveries[number] = state
    if state.waitingFor.isEmpty { finishDelivery(number, now: now) }
  }

  mutating func deliveryAnswered(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    guard let slow = deliveries[number]?.slow else { return }
    deliveries[number]?.stored += 1
    settle(number, slow.union([address]), now: now)
  }

  mutating func deliveryFailed(
    _ number: UInt64, _ address: DHTAddress, _ error: KRPCErrorCode?, now: Duration
  ) {
    if let error, let refusal = deliveries[number]?.refusal(error) {
      deliveries[number]?.refusal = refusal
    }
    if let error,
      [KRPCErrorCode.addressLimit.code, KRPCErrorCode.storeFull.code].contains(error.code)
    {
      deliveries[number]?.limit = error
    }
    if let error, error.code == KRPCErrorCode.badAnnounceToken.code {
      deliveries[number]?.hasStaleTokens = true
    }
    settle(number, [address], now: now)
  }

  /// Nobody waits for a slow node once another one has stored it.
  mutating func deliverySlow(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    guard let state = deliveries[number] else { return }
    if state.stored > 0 {
      settle(number, [address], now: now)
    } else {
      deliveries[number]?.slow.insert(address)
    }
  }

  /// An item that was to be put makes room for the one that others keep, unless something else has taken
  /// its place meanwhile. Whoever has put that one keeps it alive.
  private mutating func replace(
    _ item: DHTItem, at target: [UInt8], with found: DHTItem, now: Duration
  ) {
    guard let entry = items[target], entry.item == item else { return }
    items.remove(target)
    do throws(KRPCErrorCode) {
      removed(
        try items.insert(
          found, at: target, owner: entry.owner, by: entry.caller, compareAndSwap: nil, now: now))
      perform(.itemStored(target: target))
    } catch {
      removed([target])
    }
  }

  /// Some are not waited for any more.
  private mutating func settle(_ number: UInt64, _ addresses: Set<DHTAddress>, now: Duration) {
    guard let waitingFor = deliveries[number]?.waitingFor, !waitingFor.isDisjoint(with: addresses)
    else { return }
    deliveries[number]?.waitingFor = waitingFor.subtracting(addresses)
    if waitingFor.isSubset(of: addresses) { finishDelivery(number, now: now) }
  }

  private mutating func finishDelivery(_ number: UInt64, now: Duration) {
    guard let state = deliveries[number] else { return }
    // Whoever does not know a token that he has just given would not know the next one either.
    if state.stored == 0 || state.usesKeptTokens && state.hasStaleTokens {
      tokenTables.discardTokens(for: state.key)
    }
    if state.stored == 0 {
      if state.usesKeptTokens {
        // The tokens have gone stale, the nodes were started anew, or there is something newer, which
        // has to be seen to be believed: look again, once.
        deliveries[number]?.usesKeptTokens = false
        deliveries[number]?.sent = 0
        deliveries[number]?.slow = []
        return lookUpTokens(number, now: now)
      }
    }
    deliveries[number] = nil
    // Nobody's word counts against those who have stored it, and none removes what is kept here.
    let outcome: DHTDeliveryOutcome =
      if state.stored > 0 {
        .stored(state.stored)
      } else if let refusal = state.refusal {
        .refused(refusal)
      } else if let limit = state.limit {
        .storeLimit(limit)
      } else {
        state.sent > 0 ? .allFailed : .noNodes
      }
    perform(.deliveryFinished(state.id, outcome))
  }
}
