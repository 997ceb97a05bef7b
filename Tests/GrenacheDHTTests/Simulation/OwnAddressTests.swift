import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

extension ExternalAddress {
  fileprivate mutating func vote(
    _ seen: DHTHost, by voter: DHTHost, isOfBootstrap: Bool = false, isAmongFew: Bool = false,
    now: Duration
  ) -> DHTHost? {
    guard note(seen, by: voter, isOfBootstrap: isOfBootstrap, now: now) else { return nil }
    return decide(isAmongFew: isAmongFew, now: now)
  }
}

@Suite("BEP 42: networks of nodes of which none knows its own address")
struct AddressLearningTests {
  private func address(_ number: Int, _ family: DHTFamily) -> DHTAddress {
    guard family == .ipv6 else { return SimulatedNetwork.address(number) }
    let high = 0x2001_0db8_0000_0000 + UInt64(number) << 16
    return DHTAddress(host: DHTHost(high: high, low: 1), port: 20_001)
  }

  /// The pairs of nodes of which one does not know the other, and the nodes that others would not take.
  private func missing(_ network: SimulatedNetwork, _ count: Int, _ family: DHTFamily) -> [String] {
    var missing: [String] = []
    for number in 0..<count {
      guard let node = network.node(number) else { continue }
      if !node.ids[family].isAllowed(at: address(number, family).host) {
        missing.append("\(number) does not fit")
      }
      let known = Set(node.contacts.map(\.address))
      for other in 0..<count where other != number && !known.contains(address(other, family)) {
        missing.append("\(number) does not know \(other)")
      }
    }
    return missing
  }

  @Test(
    "from two nodes on they find together, and what one announces all others find",
    arguments: [2, 3, 4, 5, 8, 20], DHTFamily.allCases)
  func formation(_ count: Int, _ family: DHTFamily) {
    for seed in 0..<3 as Range<UInt64> {
      var network = SimulatedNetwork(seed: seed)
      for number in 0..<count {
        let bootstrap = number == 0 ? [] : [0]
        network.start(number, at: address(number, family), bootstrap: bootstrap)
      }
      network.run(for: .seconds(8))
      #expect(missing(network, count, family) == [], "seed \(seed)")
      #expect(network.outcome(of: [1], port: 5, at: count - 1) == .stored(count - 1))
      let peer = DHTAddress(host: address(count - 1, family).host, port: 5)
      for seeker in 0..<count { #expect(network.result(of: [1], at: seeker)?.peers == [peer]) }
    }
  }

  @Test("a node that has been alone for an hour knows a second one within a second")
  func late() {
    for family in DHTFamily.allCases {
      var network = SimulatedNetwork(seed: 3)
      network.start(0, at: address(0, family), bootstrap: [])
      network.run(for: .seconds(3_600))
      network.start(1, at: address(1, family), bootstrap: [0])
      network.run(for: .seconds(1))
      #expect(missing(network, 2, family) == [])
    }
  }

  @Test("nodes in two networks at once learn both addresses")
  func bothFamilies() throws {
    var generator = SeededGenerator(seed: 4)
    var configuration = DHTConfiguration()
    configuration.families = [.ipv4, .ipv6]
    let bootstrap = DHTFamily.allCases.map { address(0, $0) }
    configuration.bootstrap = bootstrap
    var node = DHTNode(
      id: .random(using: &generator), configuration: configuration, now: .zero,
      cryptography: .simulated, using: &generator)
    node.timerFired(now: .zero, using: &generator)
    while let action = node.nextAction() {
      guard case .send(let bytes, let to) = action, bootstrap.contains(to),
        case .query(let query) = try? KRPCMessage(decoding: bytes.span)
      else { continue }
      // It does not fit either, and yet has a vote.
      var response = KRPCResponse(id: NodeID(prefixOf: [1]))
      response.observedAddress = address(9, to.family)
      node.datagramReceived(
        response.encoded(transaction: query.transaction).span, from: to, now: .milliseconds(40),
        using: &generator)
    }
    for family in DHTFamily.allCases {
      #expect(node.ids[family].isAllowed(at: address(9, family).host))
    }
    #expect(node.contactCount == 0)
  }

  @Test("an identifier of before that does not fit an address that is known is changed at once")
  func configured() {
    var generator = SeededGenerator(seed: 5)
    var configuration = DHTConfiguration()
    configuration.publicHosts = DHTFamily.allCases.map { address(7, $0).host }
    let fitting = NodeID.bound(to: address(7, .ipv4).host, using: &generator)
    let node = DHTNode(
      ids: DHTNodeIDs(ipv4: fitting, ipv6: NodeID(prefixOf: [1])), configuration: configuration,
      now: .zero, cryptography: .simulated, using: &generator)
    #expect(node.ids.ipv4 == fitting)
    #expect(node.ids.ipv6.isAllowed(at: address(7, .ipv6).host))
    #expect(node.external[.ipv4]?.host == address(7, .ipv4).host)
  }

  @Test("doubts of strangers have the neighbourhood searched every five seconds at most")
  func doubts() {
    var generator = SeededGenerator(seed: 6)
    var node = DHTNode(
      id: .random(using: &generator), configuration: DHTConfiguration(), now: .zero,
      cryptography: .simulated, using: &generator)
    var searches: Set<Duration> = []
    for number in 0..<40 {
      let now = Duration.milliseconds(250 * number)
      let source = address(number, .ipv4)
      let id = NodeID.bound(to: source.host, using: &generator)
      node.datagramReceived(
        KRPCQuery.ping.encoded(transaction: [1], from: id).span, from: source, now: now,
        using: &generator)
      while let action = node.nextAction() {
        guard case .send(let bytes, _) = action,
          case .query(let query) = try? KRPCMessage(decoding: bytes.span)
        else { continue }
        if case .success(.findNode) = query.content { searches.insert(now) }
        guard case .success(.ping) = query.content else { continue }
        var response = KRPCResponse(id: id)
        response.observedAddress = DHTAddress(ip: 0x0202_0202, port: 1)
        node.datagramReceived(
          response.encoded(transaction: query.transaction).span, from: source, now: now,
          using: &generator)
      }
    }
    #expect(searches == [.zero, .seconds(5)])
  }
}

@Suite("BEP 42: learning one's own address")
struct ExternalAddressTests {
  @Test("an identifier that does not fit the address that others see is changed, and then known")
  func learned() throws {
    var network = network(12, seed: 40)
    network.start(12, bootstrap: [0])
    network.nodes[12].change { node in
      node.ids = DHTNodeIDs(ipv4: NodeID(prefixOf: [1]), ipv6: NodeID(prefixOf: [1]))
    }
    network.run(for: .seconds(30))
    let node = try #require(network.node(12))
    let address = SimulatedNetwork.address(12)
    #expect(node.id.isAllowed(at: address.host))
    let knownBy = (0..<12).count { number in
      network.node(number)?.contacts.contains { $0.address == address } == true
    }
    #expect(knownBy >= 6)
  }

  private func voter(_ number: UInt32) -> DHTHost { DHTHost(ip: 0x3000_0001 + number << 8) }
  private let host = DHTHost(ip: 0x0101_0101)
  private let lie = DHTHost(ip: 0x0202_0202)

  @Test("one network's word is not enough")
  func liars() {
    var external = ExternalAddress()
    for last in 0..<100 as Range<UInt32> {
      #expect(external.vote(host, by: DHTHost(ip: 0x0909_0900 + last), now: .zero) == nil)
    }
    for number in 0..<2 as Range<UInt32> {
      #expect(external.vote(host, by: voter(number), now: .zero) == nil)
    }
    #expect(external.vote(host, by: voter(2), now: .zero) == host)
    #expect(external.vote(DHTHost(ip: 0x7f00_0001), by: host, now: .zero) == nil)
  }

  @Test("a minority changes nothing, a majority not within ten minutes, and votes age")
  func majority() {
    var external = ExternalAddress()
    for number in 0..<5 as Range<UInt32> {
      _ = external.vote(host, by: voter(number), now: .zero)
    }
    #expect(external.host == host && external.isSettled)
    for round in 0..<100 {
      for number in 10..<15 as Range<UInt32> {
        #expect(external.vote(lie, by: voter(number), now: .seconds(round * 10)) == nil)
      }
    }
    // One more, and they are the majority; those of before have not aged yet.
    #expect(external.vote(lie, by: voter(15), now: .seconds(1_000)) == lie)
    for number in 20..<40 as Range<UInt32> {
      #expect(external.vote(host, by: voter(number), now: .seconds(1_001)) == nil)
    }
    #expect(external.vote(host, by: voter(20), now: .seconds(1_600)) == host)
    var aged = ExternalAddress()
    for number in 0..<3 as Range<UInt32> {
      _ = aged.vote(host, by: voter(number), now: .zero)
    }
    #expect(aged.vote(host, by: voter(3), now: ExternalAddress.voteAge) == nil)
  }

  @Test("among few networks the first word is believed, a bootstrap node's first, no lie for long")
  func few() {
    var external = ExternalAddress()
    #expect(external.vote(lie, by: voter(0), isAmongFew: false, now: .zero) == nil)
    external = ExternalAddress()
    #expect(external.vote(lie, by: voter(0), isAmongFew: true, now: .zero) == lie)
    #expect(!external.isSettled)
    #expect(external.vote(host, by: voter(1), isAmongFew: true, now: .zero) == nil, "one each")
    let third = external.vote(host, by: voter(2), isAmongFew: true, now: .seconds(9))
    #expect(third == nil, "not within ten seconds")
    #expect(external.vote(host, by: voter(2), isAmongFew: true, now: .seconds(10)) == host)
    #expect(external.vote(lie, by: voter(3), isAmongFew: true, now: .seconds(21)) == nil)
    let bootstrap = external.vote(
      lie, by: voter(9), isOfBootstrap: true, isAmongFew: true, now: .seconds(11))
    #expect(bootstrap == lie, "it has the first word")
    #expect(external.vote(host, by: voter(1), isAmongFew: true, now: .seconds(30)) == nil)
    for number in 10..<14 as Range<UInt32> {
      _ = external.vote(host, by: voter(number), isAmongFew: true, now: .seconds(31))
    }
    #expect(external.host == host, "but not against the majority of many networks")
    // Which is believed for long, whoever is known then.
    external = ExternalAddress()
    for number in 0..<4 as Range<UInt32> {
      _ = external.vote(host, by: voter(number), isAmongFew: true, now: .zero)
    }
    let other = external.vote(
      lie, by: voter(9), isOfBootstrap: true, isAmongFew: true, now: .seconds(599))
    #expect(other == nil)
  }

  @Test("one contact that says something else each time changes little")
  func fickle() {
    var external = ExternalAddress()
    let changes = (0..<1_000).count { number in
      let seen = number.isMultiple(of: 2) ? host : lie
      return external.vote(seen, by: voter(0), isAmongFew: true, now: .milliseconds(40 * number))
        != nil
    }
    #expect(changes == 4, "one in ten seconds")
  }

  @Test("what is configured is what counts")
  func configured() {
    var external = ExternalAddress(configured: host)
    for number in 0..<20 as Range<UInt32> {
      let seen = external.vote(lie, by: voter(number), isAmongFew: true, now: .seconds(9_999))
      #expect(seen == nil)
    }
    #expect(external.host == host && external.isSettled)
    #expect(!ExternalAddress().isSettled)
  }

  @Test("who has made us ask has no vote")
  func unasked() throws {
    var generator = SeededGenerator(seed: 1)
    var node = DHTNode(
      id: .random(using: &generator), configuration: DHTConfiguration(), now: .zero,
      cryptography: .simulated, using: &generator)
    let before = node.id
    for number in 0..<20 as Range<UInt32> {
      let source = DHTAddress(host: voter(number), port: 1)
      let id = NodeID.bound(to: source.host, using: &generator)
      node.datagramReceived(
        KRPCQuery.ping.encoded(transaction: [1], from: id).span, from: source, now: .zero,
        using: &generator)
      while let action = node.nextAction() {
        guard case .send(let bytes, _) = action,
          case .query(let query) = try? KRPCMessage(decoding: bytes.span),
          case .success(.ping) = query.content
        else { continue }
        var response = KRPCResponse(id: id)
        response.observedAddress = DHTAddress(host: lie, port: 1)
        node.datagramReceived(
          response.encoded(transaction: query.transaction).span, from: source, now: .zero,
          using: &generator)
      }
    }
    #expect(node.contactCount > 4)
    #expect(node.id == before)
  }
}
