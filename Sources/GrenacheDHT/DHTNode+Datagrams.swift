/// What a node does with datagrams.
extension DHTNode {
  /// A datagram has come. Whatever it holds, the worst that happens is that it is dropped and counted.
  package mutating func datagramReceived(
    _ datagram: Span<UInt8>, from source: DHTAddress, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) {
    guard source.port > 0, configuration.families.contains(source.family) else { return }
    tokens.advance(to: now, using: &generator)
    do throws(KRPCMessage.Drop) {
      switch try KRPCMessage(decoding: datagram) {
      case .query(let query):
        statistics.queriesReceived += 1
        queryReceived(query, bytes: datagram.count, from: source, now: now, using: &generator)
      case .response(let transaction, let response):
        responseReceived(response, transaction, from: source, now: now, using: &generator)
      case .error(let transaction, let error):
        guard let query = transactions.end(transaction, from: source) else {
          statistics.unexpectedResponses += 1
          return
        }
        queryFailed(query, .error(error), now: now)
      }
    } catch {
      drop(error.rawValue)
    }
  }

  func isContact(_ id: NodeID?, _ source: DHTAddress) -> Bool {
    guard let id else { return false }
    return tables[source.family].contains(DHTContact(id: id, address: source))
  }

  mutating func drop(_ reason: String) {
    statistics.dropped[reason, default: 0] += 1
  }

  // MARK: Responses

  private mutating func responseReceived(
    _ response: KRPCResponse, _ transaction: [UInt8], from source: DHTAddress, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) {
    guard let query = transactions.end(transaction, from: source) else {
      statistics.unexpectedResponses += 1
      return
    }
    let family = source.family
    let contact = DHTContact(id: response.id, address: source)
    guard response.id != ids[family] else { return queryFailed(query, .ourselves, now: now) }
    if let old = query.id, old != response.id {
      // Somebody else is there now, a node that was started anew: its answer proves where it is.
      let gone = DHTContact(id: old, address: source)
      if let replacement = tables[family].replaced(gone, now: now) {
        verify(replacement, now: now)
      }
    }
    statistics.responsesReceived += 1
    let roundTrip = now - query.sentAt
    noteRoundTrip(roundTrip)
    tables[family].answered(contact, roundTrip: roundTrip, now: now)
    if let seen = response.observedAddress?.host, seen.family == family {
      // Those whom strangers have made us ask have no vote: that would be for the asking.
      if query.purpose == .verification {
        doubtIdentifier(seen, by: source.host, now: now)
      } else {
        noteExternalAddress(seen, by: source, now: now, using: &generator)
      }
    }
    switch query.purpose {
    case .ping: break
    case .verification: verifying.end(source)
    case .lookup(let number): lookupAnswered(number, contact, response, now: now)
    case .delivery(let number): deliveryAnswered(number, source, now: now)
    case .withdrawal(let number): withdrawalAnswered(number, query, response, now: now)
    }
  }

  private mutating func noteRoundTrip(_ roundTrip: Duration) {
    let isFirst = roundTrips.isEmpty
    roundTrips.note(roundTrip)
    guard isFirst else { return }
    // One answer, perhaps of this very machine, says little: the others have a while yet.
    let least = configuration.slowAfter / 4
    transactions.hasten(
      late: max(least, roundTrips.lateAfter(known: nil, configuration)),
      slow: max(least, roundTrips.slowAfter(known: nil, configuration)))
  }

  /// When enough others agree on an address that the identifier does not fit, it is changed: those who
  /// check would not know us (BEP 42).
  private mutating func noteExternalAddress(
    _ seen: DHTHost, by voter: DHTAddress, now: Duration,
    using generator: inout some RandomNumberGenerator
  ) {
    let family = seen.family
    let isOfBootstrap = configuration.bootstrap.contains(voter)
    let isNews = external[family, default: ExternalAddress()].note(
      seen, by: voter.host, isOfBootstrap: isOfBootstrap, now: now)
    guard isNews else { return }
    let isAmongFew = tables[family].hasFewerNetworks(than: ExternalAddress.votesMin)
    guard let host = external[family]?.decide(isAmongFew: isAmongFew, now: now),
      !ids[family].isAllowed(at: host)
    else { return }
    ids[family] = .bound(to: host, using: &generator)
    tables[family] = tables[family].rebased(on: ids[family], now: now)
    perform(.identifierChanged(family))
    maintenance.beginAnew(now: now)
    searchNeighbourhood(now: now)
  }

  /// Somebody who has come unbidden sees us where our identifier does not fit. That is no vote, but a
  /// reason to ask those who have one: the first node of a network has nobody else to learn it from.
  private mutating func doubtIdentifier(_ seen: DHTHost, by source: DHTHost, now: Duration) {
    guard !seen.isLocal, !source.isLocal, seen.isUnicast,
      external[seen.family]?.isSettled != true, !ids[seen.family].isAllowed(at: seen),
      maintenance.takesDoubt(now: now)
    else { return }
    searchNeighbourhood(now: now)
  }

  /// A stranger that has asked something may enter the routing table once it has answered a ping: what a
  /// datagram says of its source proves nothing.
  ///
  /// - Parameter isStranger: whether it has come unbidden.
  mutating func verify(_ contact: DHTContact, isStranger: Bool = false, now: Duration) {
    guard verifying.hasPlace(for: contact.address, isStranger: isStranger) else { return }
    switch tables[contact.address.family].admission(of: contact, now: now) {
    case .unwanted:
      return
    case .afterAsking(let known):
      // A contact holds a place that is not a stranger's.
      guard verifying.hasPlace(for: known.address, isStranger: false) else { return }
      if send(.ping, to: known.address, id: known.id, .verification, now: now) {
        verifying.begin(known.address, isStranger: false)
      }
    case .wanted:
      if send(.ping, to: contact.address, id: contact.id, .verification, now: now) {
        verifying.begin(contact.address, isStranger: isStranger)
      }
    }
  }

  /// Why a query has no answer that counts.
  enum Failure: Hashable {
    case timeout
    case error(KRPCErrorCode)
    case ourselves
  }

  mutating func queryFailed(_ query: Transactions.Query, _ failure: Failure, now: Duration) {
    if failure == .timeout, let id = query.id {
      let contact = DHTContact(id: id, address: query.address)
      let family = query.address.family
      let wasKnown = tables[family].contains(contact)
      let replacement = tables[family].failed(contact, now: now)
      if wasKnown, !tables[family].contains(contact) { lose(contact) }
      if let replacement { verify(replacement, now: now) }
    }
    switch query.purpose {
    case .ping: break
    case .verification: verificationFailed(query, failure, now: now)
    case .lookup(let number): lookupQueryFailed(number, query.address, now: now)
    case .delivery(let number):
      if case .error(let error) = failure {
        deliveryFailed(number, query.address, error, now: now)
      } else {
        deliveryFailed(number, query.address, nil, now: now)
      }
    case .withdrawal(let number):
      if case .error(let error) = failure {
        withdrawalFailed(number, query.address, error, now: now)
      } else {
        withdrawalFailed(number, query.address, nil, now: now)
      }
    }
  }

  /// One lost datagram makes nobody bad: a contact is asked once more before somebody else takes its
  /// place.
  private mutating func verificationFailed(
    _ query: Transactions.Query, _ failure: Failure, now: Duration
  ) {
    if failure == .timeout, isContact(query.id, query.address),
      send(.ping, to: query.address, id: query.id, .verification, now: now)
    {
      return
    }
    verifying.end(query.address)
  }

  /// A query takes longer than expected: a lookup asks somebody else beside it.
  mutating func queryLate(_ query: Transactions.Query, now: Duration) {
    switch query.purpose {
    case .ping, .verification, .delivery, .withdrawal: break
    case .lookup(let number): lookupQueryLate(number, query.address, now: now)
    }
  }

  /// A query takes long: whoever sent it goes on without it.
  mutating func querySlow(_ query: Transactions.Query, now: Duration) {
    switch query.purpose {
    case .ping: break
    case .verification: verifying.slow(query.address)
    case .lookup(let number): lookupQuerySlow(number, query.address, now: now)
    case .delivery(let number): deliverySlow(number, query.address, now: now)
    case .withdrawal(let number): withdrawalSlow(number, query.address)
    }
  }
}
