/// Withdrawals of a node (P27).
extension DHTNode {
  /// Takes an announcement back, here at once and from those who store it; ends with
  /// `deliveryFinished`. Those who have not answered by then are told again, until the announcement
  /// has expired with them.
  package mutating func withdraw(
    _ key: [UInt8], port: UInt16, ownAddress: DHTAddress?, now: Duration
  ) -> DHTRequestID {
    outdateResults(of: key)
    if let ownAddress { _ = forget(ownAddress, for: key) }
    let service = AnnouncedService(key: key, port: port)
    endAnnouncing(service)
    withdrawals.cancelAnnouncement(of: service)
    let told = tokenTables.told(of: key, now: now)
    guard !told.isEmpty else { return deliver(.withdraw(port: port), to: key, now: now) }
    let id = DHTRequestID(number: takeNumber())
    let targets = told.map {
      Withdrawal.Target(contact: $0.contact, toldAt: $0.time, progress: .hasToken($0.token))
    }
    begin(Withdrawal([id], service, targets, now: now), now: now)
    return id
  }

  /// Begins to withdraw a service from those whom a lookup has found, for nobody else is known.
  mutating func withdraw(
    _ service: AnnouncedService, for id: DHTRequestID,
    from tokens: [(contact: DHTContact, token: [UInt8])], now: Duration
  ) {
    guard !tokens.isEmpty else { return perform(.deliveryFinished(id, .noNodes)) }
    let targets = tokens.map {
      Withdrawal.Target(contact: $0.contact, toldAt: nil, progress: .hasToken($0.token))
    }
    begin(Withdrawal([id], service, targets, now: now), now: now)
  }

  private mutating func begin(_ withdrawal: Withdrawal, now: Duration) {
    var withdrawal = withdrawal
    if let known = withdrawals.number(of: withdrawal.service).flatMap({ withdrawals.end($0) }) {
      withdrawal.ids = known.ids + withdrawal.ids
    }
    if withdrawals.isFull, let oldest = withdrawals.oldest { endWithdrawal(oldest) }
    let number = takeNumber()
    withdrawals.set(number, withdrawal)
    sendRound(number, now: now)
  }

  /// A service is announced: it is withdrawn no more.
  mutating func endWithdrawal(ofAnnounced service: AnnouncedService, now: Duration) {
    for (number, state) in underWay(of: service) {
      guard case .withdraw = state.content else { continue }
      deliveries[number] = nil
      perform(.deliveryFinished(state.id, .allFailed))
    }
    guard let last = withdrawals.number(of: service).flatMap({ endWithdrawal($0) })?.lastSent,
      now < last + Withdrawal.datagramAgeMax
    else { return }
    withdrawals.announceAgain(service, at: now + Withdrawal.datagramAgeMax)
  }

  /// A service is withdrawn: it is announced to nobody else.
  private mutating func endAnnouncing(_ service: AnnouncedService) {
    for (number, state) in underWay(of: service) {
      guard case .announce = state.content else { continue }
      deliveries[number] = nil
      perform(.deliveryFinished(state.id, state.stored > 0 ? .stored(state.stored) : .allFailed))
    }
  }

  private func underWay(of service: AnnouncedService) -> [(UInt64, DeliveryState)] {
    deliveries.filter { $0.value.service == service }.sorted { $0.key < $1.key }
  }

  @discardableResult
  private mutating func endWithdrawal(_ number: UInt64) -> Withdrawal? {
    guard var state = withdrawals.end(number) else { return nil }
    report(&state)
    return state
  }

  private mutating func report(_ state: inout Withdrawal) {
    let count = state.forgottenCount
    for id in state.ids {
      perform(.deliveryFinished(id, count > 0 ? .stored(count) : .allFailed))
    }
    state.ids = []
  }

  // MARK: Rounds

  mutating func repeatWithdrawals(now: Duration) {
    let due = withdrawals.due(at: now)
    for number in due.rounds { sendRound(number, now: now) }
    for service in due.announcements {
      _ = deliver(.announce(port: service.port), to: service.key, now: now)
    }
  }

  private mutating func sendRound(_ number: UInt64, now: Duration) {
    guard var state = withdrawals[number] else { return }
    if now >= state.began + configuration.peerAgeMax {
      endWithdrawal(number)
      return
    }
    state.beginRound(
      slow: roundTrips.slowAfter(known: nil, configuration), now: now)
    for index in state.targets.indices where !state.targets[index].isDone {
      send(number, &state, index, now: now)
    }
    keep(number, state)
  }

  private mutating func send(
    _ number: UInt64, _ state: inout Withdrawal, _ index: Int, now: Duration
  ) {
    // Lookups and announcements go on while very much is withdrawn; what is left comes the next time.
    guard transactions.count < configuration.outstandingMax / 2 else { return }
    let query: KRPCQuery
    switch state.targets[index].progress {
    case .needsToken:
      query = .getPeers(key: state.service.key)
    case .hasToken(let token):
      query = .withdrawPeer(key: state.service.key, port: state.service.port, token: token)
    case .done:
      return
    }
    // Whoever is silent may not know the method: that says nothing of whether he lives.
    let address = state.targets[index].contact.address
    send(query, to: address, id: nil, .withdrawal(number), now: now)
  }

  /// Keeps what has changed of a withdrawal; tells of its outcome when that is known.
  private mutating func keep(_ number: UInt64, _ state: Withdrawal) {
    var state = state
    if state.isSettled { report(&state) }
    withdrawals.set(number, state)
    if state.isDone { _ = withdrawals.end(number) }
  }

  // MARK: Answers

  mutating func withdrawalAnswered(
    _ number: UInt64, _ query: Transactions.Query, _ response: KRPCResponse, now: Duration
  ) {
    guard var state = withdrawals[number],
      let index = state.targets.firstIndex(where: { $0.contact.address == query.address })
    else { return }
    switch (state.targets[index].progress, response.token) {
    case (.needsToken, let token?):
      state.targets[index].progress = .hasToken(token)
      send(number, &state, index, now: now)
    case (.hasToken, nil) where response.nodes == nil && response.nodes6 == nil:
      state.answered(index, sentAt: query.sentAt)
    case (.hasToken, nil):
      // Some take a method that they do not know for `find_node`: they keep what was announced.
      state.gaveUp(index)
    case (.needsToken, nil), (.hasToken, .some), (.done, _):
      return
    }
    keep(number, state)
  }

  /// - Parameter error: what a node has answered with; `nil` for nothing.
  mutating func withdrawalFailed(
    _ number: UInt64, _ address: DHTAddress, _ error: KRPCErrorCode?, now: Duration
  ) {
    guard var state = withdrawals[number],
      let index = state.targets.firstIndex(where: { $0.contact.address == address })
    else { return }
    if let error {
      if error.code == KRPCErrorCode.badWithdrawToken.code {
        if case .hasToken = state.targets[index].progress, state.tokenRefused(index) {
          send(number, &state, index, now: now)
        }
      } else {
        state.gaveUp(index)
      }
    } else {
      state.targets[index].isAwaited = false
    }
    keep(number, state)
  }

  mutating func withdrawalSlow(_ number: UInt64, _ address: DHTAddress) {
    guard var state = withdrawals[number],
      let index = state.targets.firstIndex(where: { $0.contact.address == address })
    else { return }
    state.targets[index].isSlow = true
    keep(number, state)
  }
}
