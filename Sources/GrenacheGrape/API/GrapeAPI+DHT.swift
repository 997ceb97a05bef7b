internal import GrenacheDHT
internal import GrenacheIO

/// What the API asks on the loop of the DHT.
extension GrapeAPI {
  static func announce(
    _ key: [UInt8], _ port: UInt16, _ own: DHTAddress?, _ caller: DHTCaller?,
    within timeout: Duration, _ place: RequestsInFlight.Place, _ driver: LoopBound<DHTDriver>,
    on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    await driver.get(on: loop).announce(
      key, port: port, ownAddress: own, for: caller, by: .now() + timeout, holding: place,
      on: loop)
  }

  static func keep(
    _ peer: DHTAddress, _ key: [UInt8], _ caller: DHTCaller?, _ driver: LoopBound<DHTDriver>,
    on loop: isolated EventLoop
  ) -> DHTKeepOutcome {
    driver.get(on: loop).keep(peer, of: key, for: caller, on: loop)
  }

  static func forget(
    _ peer: DHTAddress, _ key: [UInt8], _ driver: LoopBound<DHTDriver>,
    on loop: isolated EventLoop
  ) -> Bool {
    driver.get(on: loop).forget(peer, for: key, on: loop)
  }

  static func withdraw(
    _ key: [UInt8], _ port: UInt16, _ own: DHTAddress?, within timeout: Duration,
    _ place: RequestsInFlight.Place, _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    await driver.get(on: loop).withdraw(
      key, port: port, ownAddress: own, by: .now() + timeout, holding: place, on: loop)
  }

  static func lookUp(
    _ key: [UInt8], within timeout: Duration, patience: Duration,
    _ place: RequestsInFlight.Place, _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) async -> GrapeLookup? {
    let driver = driver.get(on: loop)
    let result = await driver.lookUp(
      key, by: .now() + timeout, patience: patience, holding: place, on: loop)
    return result.map { driver.found($0, of: key) }
  }

  /// The same, telling `found` of peers meanwhile, at addresses for somebody who sees this host as
  /// `view`; it is finished with the lookup.
  static func lookUp(
    _ key: [UInt8], for view: HostView, within timeout: Duration, _ place: RequestsInFlight.Place,
    _ driver: LoopBound<DHTDriver>, telling found: AsyncStream<[String]>.Continuation,
    on loop: isolated EventLoop
  ) async -> GrapeLookup? {
    defer { found.finish() }
    let driver = driver.get(on: loop)
    var sorter = driver.sorter(of: key)
    let peersFound = PeersFound { peers in
      let new = driver.sort(peers, with: &sorter)
      let addresses = FoundPeers(new, driver.publicHosts, max: new.count).addresses(view)
      if !addresses.isEmpty { found.yield(addresses) }
    }
    let result = await driver.lookUp(
      key, by: .now() + timeout, found: peersFound, holding: place, on: loop)
    return result.map { driver.found($0, of: key) }
  }

  static func put(
    _ item: DHTItem, _ compareAndSwap: Int64?, _ caller: DHTCaller?, within timeout: Duration,
    _ place: RequestsInFlight.Place, _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) async -> DHTDeliveryOutcome? {
    await driver.get(on: loop).put(
      item, compareAndSwap: compareAndSwap, for: caller, by: .now() + timeout, holding: place,
      on: loop)
  }

  static func get(
    _ target: [UInt8], _ salt: [UInt8], _ usesOwnStore: Bool, within timeout: Duration,
    _ place: RequestsInFlight.Place, _ driver: LoopBound<DHTDriver>, on loop: isolated EventLoop
  ) async -> DHTGetResult? {
    await driver.get(on: loop).get(
      target, salt: salt, usesOwnStore: usesOwnStore, by: .now() + timeout, holding: place,
      on: loop)
  }
}
