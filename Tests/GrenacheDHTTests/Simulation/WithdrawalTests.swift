import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

/// Knows no withdrawals, and takes what names an info-hash for a query for nodes.
private final class Oblivious: Impostor {
  let contact: DHTContact
  var withdrawals = 0

  init(_ contact: DHTContact) { self.contact = contact }

  func received(_ datagram: [UInt8], from source: DHTAddress) -> [([UInt8], DHTAddress)] {
    guard case .query(let query) = try? KRPCMessage(decoding: datagram.span),
      case .success(let content) = query.content
    else { return [] }
    var response = KRPCResponse(id: contact.id)
    switch content {
    case .ping, .announcePeer, .put: break
    case .getPeers, .get: (response.token, response.nodes) = ([1], [contact])
    case .findNode: response.nodes = [contact]
    case .withdrawPeer:
      response.nodes = [contact]
      withdrawals += 1
    }
    return [(response.encoded(transaction: query.transaction), source)]
  }
}

@Suite("P27 Withdrawals, simulated")
struct WithdrawalTests {
  /// Nodes that keep a service, other than the one that has announced it.
  private func keepers(_ network: SimulatedNetwork, of key: [UInt8], port: UInt16) -> [Int] {
    (0..<network.nodes.count).filter { number in
      let node = network.node(number)
      return node?.peers(of: key, at: network.now).contains { $0.peer.port == port } == true
    }
  }

  @Test(
    "P27 with a tenth of all datagrams lost, what is withdrawn is gone within 2 s", arguments: 0..<6
  )
  func loss(_ seed: Int) {
    var network = network(25, seed: UInt64(seed))
    for round in 0..<10 as Range<UInt8> {
      _ = network.outcome(of: [round], port: 5, at: 3)
    }
    network.weather.lossPercent = 10
    network.weather.jitter = .milliseconds(60)
    for round in 0..<10 as Range<UInt8> { _ = network.withdraw([round], port: 5, at: 3) }
    network.run(for: .seconds(2))
    for round in 0..<10 as Range<UInt8> {
      #expect(keepers(network, of: [round], port: 5).isEmpty, "service \(round)")
    }
  }

  @Test("P27 a node that was started anew with its memory is given another token, and forgets")
  func newToken() {
    var network = network(8, seed: 1)
    _ = network.outcome(of: [1], port: 5, at: 3)
    network.stop(6)
    network.start(6, bootstrap: [0], keepsMemory: true)
    network.run(for: .seconds(1))
    #expect(keepers(network, of: [1], port: 5).contains(6))
    #expect(network.outcome(of: network.withdraw([1], port: 5, at: 3)) == .stored(7))
    network.run(for: .seconds(1))
    #expect(keepers(network, of: [1], port: 5).isEmpty)
  }

  @Test("P27 a node that could not be reached forgets when it can, though the lookup misses it")
  func unreachable() {
    var network = network(8, seed: 2)
    _ = network.outcome(of: [1], port: 5, at: 3)
    network.nodes[6].side = 1
    network.isPartitioned = true
    #expect(network.outcome(of: network.withdraw([1], port: 5, at: 3)) == .stored(6))
    network.run(for: .seconds(30))
    #expect(keepers(network, of: [1], port: 5) == [6])
    network.isPartitioned = false
    network.run(for: .seconds(15))
    #expect(keepers(network, of: [1], port: 5).isEmpty)
  }

  @Test("it is told again until everybody has answered, and no longer than announcements live")
  func end() {
    var network = network(8, seed: 3)
    _ = network.outcome(of: [1], port: 5, at: 3)
    network.run(for: .seconds(2))
    network.stop(6)
    _ = network.outcome(of: network.withdraw([1], port: 5, at: 3))
    #expect(network.node(3)?.withdrawals.count == 1, "one has not answered")
    network.run(for: .seconds(136))
    #expect(network.node(3)?.withdrawals.count == 0)
    _ = network.outcome(of: [2], port: 5, at: 3)
    network.run(for: .seconds(2))
    _ = network.outcome(of: network.withdraw([2], port: 5, at: 3))
    #expect(network.node(3)?.withdrawals.count == 0)
  }

  @Test(
    "what is withdrawn and announced, or announced and withdrawn, in no time: the last word counts",
    arguments: 0..<40)
  func lastWord(_ seed: Int) throws {
    var weather = SimulatedNetwork.Weather()
    weather.jitter = .milliseconds(120)
    weather.duplicatePercent = 20
    var network = network(6, seed: UInt64(seed), weather: weather)
    _ = network.outcome(of: [1], port: 5, at: 3)
    _ = network.announce([2], port: 5, at: 3)
    let pause = Duration.milliseconds(seed * 3)
    network.run(for: pause)
    _ = network.withdraw([1], port: 5, at: 3)
    _ = network.withdraw([2], port: 5, at: 3)
    network.run(for: pause)
    _ = network.announce([1], port: 5, at: 3)
    network.run(for: .seconds(2))
    let tokens = try #require(network.node(3)).tokenTables.tokens(for: [1], now: network.now)
    let keepers = keepers(network, of: [1], port: 5).map { SimulatedNetwork.address($0) }
    #expect(tokens.count > 1 && tokens.allSatisfy { keepers.contains($0.contact.address) })
    #expect(self.keepers(network, of: [2], port: 5).isEmpty)
    #expect(network.node(3)?.withdrawals.count == 0)
  }

  @Test("whoever withdraws twice has two outcomes")
  func twice() {
    var network = network(6, seed: 4)
    _ = network.outcome(of: [1], port: 5, at: 3)
    let first = network.withdraw([1], port: 5, at: 3)
    let second = network.withdraw([1], port: 5, at: 3)
    #expect(network.outcome(of: first) == .stored(5) && network.outcome(of: second) == .stored(5))
    // Of what was never announced, too, and at a node that is alone.
    #expect(network.outcome(of: network.withdraw([9], port: 5, at: 3)) == .stored(5))
    network.start(6, bootstrap: [])
    #expect(network.outcome(of: network.withdraw([9], port: 5, at: 6)) == .noNodes)
  }

  @Test("the limit of withdrawals that are repeated: one past it, the oldest is not")
  func limit() throws {
    var network = network(4, seed: 5) { $0.withdrawalsMax = 2 }
    for key in 1...3 as ClosedRange<UInt8> { _ = network.outcome(of: [key], port: 5, at: 3) }
    network.isPartitioned = true
    network.nodes[3].side = 1
    let requests = (1...2 as ClosedRange<UInt8>).map { network.withdraw([$0], port: 5, at: 3) }
    #expect(network.node(3)?.withdrawals.count == 2)
    #expect(network.deliveryOutcome(try #require(requests[0])) == nil)
    _ = network.withdraw([3], port: 5, at: 3)
    #expect(network.node(3)?.withdrawals.count == 2)
    #expect(network.deliveryOutcome(try #require(requests[0])) == .allFailed)
    #expect(network.outcome(of: requests[1]) == .allFailed)
  }

  @Test("P27 what is withdrawn does not come back from the cache of its own node, after a restart")
  func cachedAnew() {
    var network = network(8, seed: 9)
    _ = network.outcome(of: [1], port: 5, at: 3)
    network.stop(3)
    network.start(3, bootstrap: [0], keepsMemory: true)
    network.run(for: .seconds(2))
    #expect(network.outcome(of: network.withdraw([1], port: 5, at: 3)) == .stored(7))
    #expect(network.result(of: [1], at: 3)?.peers == [])
  }

  @Test("P27 nor from a lookup that was under way and had found it already")
  func cachedMeanwhile() throws {
    var network = network(8, seed: 10)
    _ = network.outcome(of: [1], port: 5, at: 3)
    network.run(for: .seconds(2))
    let request = network.lookUp([1], at: 3)
    let lookup = try #require(request)
    network.run(for: .seconds(1)) { $0.node(3)?.lookups.values.contains(where: \.hasPeers) == true }
    #expect(network.lookupResult(lookup) == nil)
    #expect(network.outcome(of: network.withdraw([1], port: 5, at: 3)) == .stored(7))
    #expect(network.lookupResult(lookup)?.peers.isEmpty == false)
    #expect(network.result(of: [1], at: 3)?.peers == [])
  }

  @Test("whoever answers a withdrawal with nodes has not understood it, and keeps the service")
  func oblivious() {
    var network = SimulatedNetwork(seed: 11)
    let address = SimulatedNetwork.address(0)
    var generator = SeededGenerator(seed: 11)
    let impostor = Oblivious(
      DHTContact(id: .bound(to: address.host, using: &generator), address: address))
    network.place(impostor, number: 0, at: address)
    network.start(1, bootstrap: [0])
    network.run(for: .seconds(2))
    #expect(network.outcome(of: [1], port: 5, at: 1) == .stored(1))
    #expect(network.outcome(of: network.withdraw([1], port: 5, at: 1)) == .allFailed)
    network.run(for: .seconds(5))
    #expect(impostor.withdrawals == 1 && network.node(1)?.withdrawals.count == 0)
  }

  @Test(
    "an announcement waits for nobody who is slow once one has stored it, whoever was slow first")
  func slowFirst() {
    var network = network(6, seed: 12)
    _ = network.outcome(of: [1], port: 5, at: 3)
    // From now on everybody is slow before anybody answers.
    network.weather.latency = .milliseconds(250)
    network.stop(5)
    let start = network.now
    guard case .stored = network.outcome(of: [1], port: 5, at: 3) else {
      Issue.record("not stored")
      return
    }
    #expect(network.now - start < .seconds(1))
  }

  @Test("a node that refuses every token, or knows no withdrawals, is left alone")
  func refusing() {
    let service = AnnouncedService(key: [1], port: 5)
    let contact = DHTContact(id: NodeID(prefixOf: [1]), address: DHTAddress(ip: 1, port: 1))
    var withdrawal = Withdrawal(
      [], service, [.init(contact: contact, toldAt: nil, progress: .hasToken([1]))], now: .zero)
    let asked = (1...3).map { _ in withdrawal.tokenRefused(0) }
    #expect(asked == [true, true, false])
    #expect(withdrawal.isDone && withdrawal.isSettled && withdrawal.forgottenCount == 0)
  }

  @Test(
    "P26 whoever shares the address of a service withdraws by datagram only what he announced so")
  func certified() throws {
    var network = network(3, seed: 6)
    let peer = DHTAddress(host: SimulatedNetwork.address(2).host, port: 5)
    let now = network.now
    network.nodes[1].change { node in _ = node.keep(peer, for: [1], now: now) }
    _ = network.outcome(of: network.withdraw([1], port: 5, at: 2))
    #expect(network.node(1)?.peers(of: [1], at: network.now).map(\.peer) == [peer])
    network.nodes[1].change { node in _ = node.forget(peer, for: [1]) }
    #expect(network.node(1)?.peers(of: [1], at: network.now) == [])
  }

  @Test("when all have no room, the outcome says so", arguments: [1, 3])
  func noRoom(_ services: Int) {
    var network = network(4, seed: 7) {
      $0.peersPerContactMax = 2
      $0.peersPerRemoteAddressMax = 2
      $0.peersPerPrefixMax = 2
    }
    var outcome: DHTDeliveryOutcome?
    for key in 1...services { outcome = network.outcome(of: [UInt8(key)], port: 5, at: 3) }
    if services == 1 {
      #expect(outcome == .stored(3))
    } else if case .storeLimit(let error) = outcome {
      #expect(error.code == 201)
    } else {
      Issue.record("\(String(describing: outcome))")
    }
  }
}
