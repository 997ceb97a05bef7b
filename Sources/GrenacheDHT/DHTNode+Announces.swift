/// Tokens of a lookup that are good for announcing again.
struct TokenTable: Sendable {
  var tokens: [(contact: DHTContact, token: [UInt8])]
  var expiry: Duration
}

/// An announcement under way.
struct AnnounceState: Sendable {
  let announceID: DHTAnnounceID
  let key: [UInt8]
  let port: UInt16
  /// Whether it relies on tokens of an earlier lookup: if they all fail, a new lookup is made.
  var usesKeptTokens: Bool
  var waitingFor: Set<DHTAddress> = []
  var stored = 0
  var sent = 0
}

/// Announcements of a node.
extension DHTNode {
  /// Announces that this host serves `key` on `port`; ends with `announceFinished`.
  ///
  /// - Parameter ownAddress: under which address this node itself keeps the announcement: others see it
  ///   by the source of our datagrams, which we cannot. A single grape works by that.
  package mutating func announce(
    _ key: [UInt8], port: UInt16, ownAddress: DHTAddress?, now: Duration
  ) -> DHTAnnounceID {
    if let ownAddress { _ = store.insert(ownAddress, for: key, now: now) }
    let announceID = DHTAnnounceID(number: takeNumber())
    let number = takeNumber()
    let kept = tokenTables[key].map { $0.expiry > now && !$0.tokens.isEmpty } ?? false
    announces[number] = AnnounceState(
      announceID: announceID, key: key, port: port, usesKeptTokens: kept)
    if kept {
      sendAnnounces(number, now: now)
    } else {
      lookUpTokens(number, key, now: now)
    }
    return announceID
  }

  private mutating func lookUpTokens(_ announce: UInt64, _ key: [UInt8], now: Duration) {
    let lookup = peersLookup(key, now: now)
    lookups[lookup]?.announces.append(announce)
    advance(lookup, now: now)
  }

  mutating func keepTokens(
    _ tokens: [(contact: DHTContact, token: [UInt8])], for key: [UInt8], now: Duration
  ) {
    if tokens.isEmpty {
      tokenTables[key] = nil
      return
    }
    if tokenTables.count >= configuration.tokenTablesMax, tokenTables[key] == nil {
      let oldest = tokenTables.min { $0.value.expiry < $1.value.expiry }
      if let oldest { tokenTables[oldest.key] = nil }
    }
    tokenTables[key] = TokenTable(tokens: tokens, expiry: now + configuration.tokenAge)
  }

  /// Sends the announcement to every node whose token is known.
  mutating func sendAnnounces(_ number: UInt64, now: Duration) {
    guard var state = announces[number] else { return }
    for (contact, token) in tokenTables[state.key]?.tokens ?? [] {
      let query = KRPCQuery.announcePeer(
        key: state.key, port: state.port, impliedPort: false, token: token)
      let purpose = Transactions.Purpose.announce(number)
      if send(query, to: contact.address, id: contact.id, purpose, now: now) {
        state.waitingFor.insert(contact.address)
        state.sent += 1
      }
    }
    announces[number] = state
    if state.waitingFor.isEmpty { finishAnnounce(number, now: now) }
  }

  mutating func announceAnswered(_ number: UInt64, _ contact: DHTContact, now: Duration) {
    announces[number]?.stored += 1
    settle(number, contact.address, now: now)
  }

  mutating func announceQueryFailed(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    settle(number, address, now: now)
  }

  /// Nobody waits for a slow node once another one has stored the announcement.
  mutating func announceQuerySlow(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    guard let state = announces[number], state.stored > 0 else { return }
    settle(number, address, now: now)
  }

  private mutating func settle(_ number: UInt64, _ address: DHTAddress, now: Duration) {
    guard announces[number]?.waitingFor.remove(address) != nil else { return }
    if announces[number]?.waitingFor.isEmpty == true { finishAnnounce(number, now: now) }
  }

  private mutating func finishAnnounce(_ number: UInt64, now: Duration) {
    guard let state = announces[number] else { return }
    if state.stored == 0 {
      tokenTables[state.key] = nil
      if state.usesKeptTokens {
        // The tokens have gone stale, or the nodes were started anew: look for others, once.
        announces[number]?.usesKeptTokens = false
        announces[number]?.sent = 0
        return lookUpTokens(number, state.key, now: now)
      }
    }
    announces[number] = nil
    let outcome: DHTAnnounceOutcome =
      state.stored > 0 ? .stored(state.stored) : state.sent > 0 ? .allFailed : .noNodes
    perform(.announceFinished(state.announceID, outcome))
  }
}
