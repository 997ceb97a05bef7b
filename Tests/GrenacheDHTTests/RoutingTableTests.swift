import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

@Suite("BEP 5: the routing table")
struct RoutingTableTests {
  private let own = NodeID(prefixOf: [0])

  /// A contact whose identifier begins with a byte; each in a network of its own.
  private func contact(_ first: UInt8, _ number: UInt8, ip: UInt32? = nil) -> DHTContact {
    DHTContact(
      id: NodeID(prefixOf: [first, number, 1]),
      address: DHTAddress(ip: ip ?? 0x0a00_0001 + UInt32(number) << 8, port: 1))
  }

  private func fullTable(_ configuration: DHTConfiguration = .init()) -> RoutingTable {
    var table = RoutingTable(own: own, configuration)
    for number in 0..<20 {
      table.answered(contact(0x80, UInt8(number)), roundTrip: .zero, now: .zero)
    }
    return table
  }

  @Test("good contacts stay: a full bucket takes nobody else")
  func good() {
    var table = fullTable()
    #expect(table.count == 20)
    #expect(table.admission(of: contact(0x80, 100), now: .seconds(1)) == .unwanted)
    table.answered(contact(0x80, 100), roundTrip: .zero, now: .seconds(1))
    #expect(table.count == 20)
    #expect(table.admission(of: contact(0x40, 100), now: .seconds(1)) == .wanted)
  }

  @Test("a questionable contact, the longest silent, is asked before a newcomer takes its place")
  func questionable() {
    var table = fullTable()
    for number in 1..<20 {
      table.asked(contact(0x80, UInt8(number)), now: .seconds(200))
    }
    let newcomer = contact(0x80, 100)
    #expect(table.admission(of: newcomer, now: .seconds(300)) == .unwanted)
    #expect(
      table.admission(of: newcomer, now: .seconds(301)) == .afterAsking(contact(0x80, 0)))
    // It answers: nothing changes.
    table.answered(contact(0x80, 0), roundTrip: .zero, now: .seconds(301))
    #expect(table.admission(of: newcomer, now: .seconds(302)) == .unwanted)
  }

  @Test("a contact is bad after two queries without an answer; a replacement is asked")
  func bad() {
    var table = fullTable()
    let newcomer = contact(0x80, 100)
    table.answered(newcomer, roundTrip: .zero, now: .seconds(1))
    #expect(table.failed(contact(0x80, 3), now: .seconds(2)) == nil)
    #expect(table.contains(contact(0x80, 3)))
    #expect(table.failed(contact(0x80, 3), now: .seconds(3)) == newcomer)
    #expect(!table.contains(contact(0x80, 3)))
    #expect(table.admission(of: newcomer, now: .seconds(3)) == .wanted)
  }

  @Test("one failure is forgiven by an answer")
  func forgiven() {
    var table = fullTable()
    let one = contact(0x80, 3)
    _ = table.failed(one, now: .seconds(1))
    table.answered(one, roundTrip: .zero, now: .seconds(2))
    _ = table.failed(one, now: .seconds(3))
    #expect(table.contains(one))
  }

  @Test("an identifier that is known keeps its address while that answers")
  func hijack() {
    var table = fullTable()
    var thief = contact(0x80, 3)
    thief.address = DHTAddress(ip: 0x0a63_0001, port: 9)
    table.answered(thief, roundTrip: .zero, now: .seconds(1))
    #expect(table.contains(contact(0x80, 3)) && !table.contains(thief))
    #expect(table.admission(of: contact(0x80, 3), now: .seconds(1)) == .unwanted, "known")
    #expect(table.admission(of: thief, now: .seconds(14)) == .unwanted, "has just answered")
    #expect(table.admission(of: thief, now: .seconds(15)) == .afterAsking(contact(0x80, 3)))
    table.asked(contact(0x80, 3), now: .seconds(15))
    #expect(
      table.admission(of: thief, now: .seconds(15)) == .afterAsking(contact(0x80, 3)),
      "what it asks may be forged")
    // One datagram may be lost.
    #expect(table.failed(contact(0x80, 3), now: .seconds(16)) == nil)
    #expect(table.admission(of: thief, now: .seconds(16)) == .afterAsking(contact(0x80, 3)))
    table.answered(thief, roundTrip: .zero, now: .seconds(16))
    #expect(table.contains(contact(0x80, 3)) && !table.contains(thief))
    // Nobody is there any more: it has moved.
    #expect(table.failed(contact(0x80, 3), now: .seconds(17)) == thief)
    #expect(table.admission(of: thief, now: .seconds(17)) == .wanted)
    table.answered(thief, roundTrip: .zero, now: .seconds(17))
    #expect(table.contains(thief) && !table.contains(contact(0x80, 3)) && table.count == 20)
  }

  @Test("a node that has moved is known at its new address, though nobody asks where it was")
  func moved() throws {
    var network = SimulatedNetwork(seed: 8)
    network.nodesKnowTheirAddresses = true
    for number in 0..<5 {
      network.start(number, bootstrap: number == 0 ? [] : [0]) { $0.checksNodeIDs = false }
    }
    network.run(for: .seconds(10))
    let id = try #require(network.node(4)?.id)
    network.stop(4)
    network.start(5, bootstrap: [0], settledAs: (id, [])) { $0.checksNodeIDs = false }
    network.run(for: .seconds(45))
    let addresses = Set([1, 2, 3, 5].map { SimulatedNetwork.address($0) })
    #expect(Set(network.node(0)?.contacts.map(\.address) ?? []) == addresses)
  }

  @Test("under another identifier a node knows the same contacts, and of each what it knew")
  func rebased() {
    var generator = SeededGenerator(seed: 9)
    var table = fullTable()
    let one = contact(0x40, 1)
    for second in 0..<100 {
      table.answered(one, roundTrip: .milliseconds(80), now: .seconds(second))
    }
    _ = table.failed(one, now: .seconds(100))
    let rebased = table.rebased(on: .random(using: &generator), now: .seconds(200))
    #expect(Set(rebased.contacts) == Set(table.contacts) && rebased.count == 21)
    #expect(rebased.roundTrip(to: one.id) == table.roundTrip(to: one.id))
    #expect(rebased.roundTrip(to: one.id)?.smoothed == .milliseconds(80))
    #expect(rebased.silent(since: .seconds(99), max: 99).count == 20, "all but that one")
    var failed = rebased
    _ = failed.failed(one, now: .seconds(200))
    #expect(!failed.contains(one), "the second time")
  }

  @Test("networks are counted by what is on public addresses")
  func networks() {
    var table = RoutingTable(own: own, DHTConfiguration())
    for number in 0..<9 as Range<UInt8> {
      table.answered(contact(0x80, number), roundTrip: .zero, now: .zero)
    }
    #expect(table.hasFewerNetworks(than: 1))
    var generator = SeededGenerator(seed: 2)
    for number in [1, 2, 3, 3] {
      var address = SimulatedNetwork.address(number)
      address.port = UInt16(table.count)
      let one = DHTContact(id: .bound(to: address.host, using: &generator), address: address)
      table.answered(one, roundTrip: .zero, now: .zero)
    }
    #expect(!table.hasFewerNetworks(than: 3) && table.hasFewerNetworks(than: 4))
  }

  @Test("a bucket that has not changed for a while is refreshed, once")
  func refresh() throws {
    var generator = SeededGenerator(seed: 1)
    var table = fullTable()
    let point = try #require(
      table.pointToRefresh(since: .seconds(1), now: .seconds(900), using: &generator))
    #expect(own.distance(to: point).leadingZeroBitCount == 0)
    let again = table.pointToRefresh(since: .seconds(1), now: .seconds(900), using: &generator)
    #expect(again == nil)
  }

  @Test(
    "points of buckets share exactly so many bits", arguments: [0, 1, 63, 64, 65, 127, 128, 159])
  func points(_ count: Int) {
    var generator = SeededGenerator(seed: UInt64(count))
    let own = NodeID.random(using: &generator)
    let point = own.sharing(count, using: &generator)
    #expect(own.distance(to: point).leadingZeroBitCount == count)
  }

  @Test("the closest are those that sorting all of them gives", arguments: 0..<20)
  func closest(_ seed: Int) {
    var generator = SeededGenerator(seed: UInt64(seed))
    var configuration = DHTConfiguration()
    configuration.checksNodeIDs = false
    let own = NodeID.random(using: &generator)
    var table = RoutingTable(own: own, configuration)
    for number in 0..<500 {
      let id =
        number % 3 == 0
        ? own.sharing(number % 40, using: &generator) : NodeID.random(using: &generator)
      table.answered(
        DHTContact(id: id, address: SimulatedNetwork.address(number)), roundTrip: .zero, now: .zero)
    }
    let all = table.contacts
    #expect(all.count == table.count)
    for target in [own, .random(using: &generator), own.sharing(3, using: &generator)] {
      let expected = all.sorted { target.distance(to: $0.id) < target.distance(to: $1.id) }
      for max in [1, 8, 20, 1_000] {
        #expect(table.closest(to: target, max: max) == Array(expected.prefix(max)))
      }
    }
  }

  @Test(
    "P29 at most two nodes of a /24 in a bucket, off loopback",
    arguments: [(0x0b00_0000 as UInt32, 2), (0x7f00_0000, 20), (0x0a00_0000, 2)])
  func prefixes(_ network: UInt32, _ expected: Int) {
    var configuration = DHTConfiguration()
    configuration.checksNodeIDs = false
    var table = RoutingTable(own: own, configuration)
    for number in 0..<30 {
      let one = contact(0x80, UInt8(number), ip: network + UInt32(number) + 1)
      _ = table.admission(of: one, now: .zero)
      table.answered(one, roundTrip: .zero, now: .zero)
    }
    #expect(table.count == expected)
  }

  @Test("P29 at most two nodes of a /48 in a bucket")
  func prefixes6() {
    var configuration = DHTConfiguration()
    configuration.checksNodeIDs = false
    var table = RoutingTable(own: own, configuration)
    for number in 0..<30 {
      let host = DHTHost(high: 0x2001_0db8_0001_0000 + UInt64(number), low: UInt64(number) + 1)
      let id = NodeID(prefixOf: [0x80, UInt8(number), 1])
      table.answered(
        DHTContact(id: id, address: DHTAddress(host: host, port: 1)), roundTrip: .zero, now: .zero)
    }
    #expect(table.count == 2)
  }
}

@Suite("BEP 42: identifiers bound to addresses")
struct NodeIDTests {
  @Test(
    "the table of BEP 42",
    arguments: [
      (0x7c1f_4b15, "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
      (0x154b_1f7c, "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
      (0x4117_33aa, "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
      (0x547c_490e, "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
      (0x2bd5_3553, "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
    ] as [(UInt32, String)])
  func vectors(_ ip: UInt32, _ text: String) throws {
    let bytes = stride(from: 0, to: 40, by: 2).compactMap { index in
      let start = text.index(text.startIndex, offsetBy: index)
      return UInt8(text[start..<text.index(start, offsetBy: 2)], radix: 16)
    }
    let id = try #require(NodeID(bytes))
    #expect(id.isAllowed(at: DHTHost(ip: ip)))
    #expect(!id.isAllowed(at: DHTHost(ip: ip ^ 0x100)))
    #expect(id.isAllowed(at: DHTHost(ip: ip ^ 0x8000_0000)), "not a bit that counts")
  }

  @Test(
    "IPv6: CRC-32C of the masked upper half, computed apart from this code by BEP 42's text",
    arguments: [
      (0x2001_0db8_85a3_08d3, 0x1319_8a2e_0370_7348, 1, 0x8113_ddef),
      (0x2a00_1450_4001_081b, 0x200e, 86, 0xa15e_e539),
      (0x2606_4700_4700_0000, 0x1111, 22, 0xed66_f22b),
      (0x2400_cb00_2048_0001, 0x6814_0001, 65, 0x7fae_a10f),
    ] as [(UInt64, UInt64, UInt8, UInt32)])
  func vectors6(_ high: UInt64, _ low: UInt64, _ last: UInt8, _ checksum: UInt32) throws {
    let host = DHTHost(high: high, low: low)
    func id(_ checksum: UInt32, _ last: UInt8) throws -> NodeID {
      let shifts: [UInt32] = [24, 16, 8, 0]
      let first = shifts.map { UInt8(truncatingIfNeeded: checksum >> $0) }
      return try #require(NodeID(first + [UInt8](repeating: 7, count: 15) + [last]))
    }
    #expect(try id(checksum, last).isAllowed(at: host))
    #expect(try id(checksum ^ 0x7ff, last).isAllowed(at: host), "the rest is random")
    #expect(try id(checksum, last ^ 0xf8).isAllowed(at: host), "three bits of the last byte count")
    #expect(try !id(checksum ^ 0x800, last).isAllowed(at: host))
    #expect(try !id(checksum, last ^ 1).isAllowed(at: host))
    // The network counts, by the mask, and the host's half does not.
    #expect(try id(checksum, last).isAllowed(at: DHTHost(high: high, low: ~low)))
    #expect(try id(checksum, last).isAllowed(at: DHTHost(high: high ^ 0x8000 << 48, low: low)))
    #expect(try !id(checksum, last).isAllowed(at: DHTHost(high: high ^ 1 << 56, low: low)))
    #expect(try !id(checksum, last).isAllowed(at: DHTHost(high: high ^ 1, low: low)))
  }

  @Test("what is made for an address is allowed there, and elsewhere not")
  func made() {
    var generator = SeededGenerator(seed: 1)
    for number in 0..<100 {
      let hosts = [
        SimulatedNetwork.address(number).host,
        DHTHost(high: 0x2001_0db8_0000_0000 + UInt64(number) << 16, low: 1),
      ]
      for host in hosts {
        let id = NodeID.bound(to: host, using: &generator)
        #expect(id.isAllowed(at: host))
        #expect(!id.isAllowed(at: DHTHost(ip: host.ip ^ 0x0101_0100 ^ 0x2000_0000)))
      }
    }
  }

  @Test(
    "local addresses are exempt",
    arguments: [0x7f00_0001, 0x0a01_0203, 0xac10_0001, 0xac1f_ffff, 0xc0a8_0101, 0xa9fe_0001]
      as [UInt32])
  func local(_ ip: UInt32) {
    #expect(NodeID(prefixOf: []).isAllowed(at: DHTHost(ip: ip)))
    #expect(!NodeID(prefixOf: []).isAllowed(at: DHTHost(ip: ip ^ 0x4000_0000)))
  }
}

@Suite("P29 Whom a lookup asks")
struct LookupCandidateTests {
  private let target = NodeID(prefixOf: [0xff])
  private var configuration = DHTConfiguration()

  init() { configuration.checksNodeIDs = false }

  /// A contact that shares so many bits with the target; each in a network of its own.
  private func contact(_ bits: Int, _ number: Int, ip: UInt32? = nil) -> DHTContact {
    var generator = SeededGenerator(seed: UInt64(bits * 1_000 + number))
    return DHTContact(
      id: target.sharing(bits, using: &generator),
      address: DHTAddress(ip: ip ?? 0x2000_0001 + UInt32(number) << 8, port: 1))
  }

  private func lookup(_ contacts: [DHTContact]) -> Lookup {
    Lookup(
      target: target, own: NodeID(prefixOf: []), configuration, contacts: contacts, bootstrap: [])
  }

  /// Whom it asks now.
  private func asked(_ lookup: inout Lookup) -> [DHTAddress] {
    var asked: [DHTAddress] = []
    while let next = lookup.next() { asked.append(next.address) }
    return asked
  }

  /// Whom it asks until nobody is left, if nobody answers.
  private func askedInVain(_ lookup: inout Lookup) -> [DHTAddress] {
    var all: [DHTAddress] = []
    while true {
      let asked = asked(&lookup)
      if asked.isEmpty { return all }
      all += asked
      for address in asked { lookup.queryFailed(address) }
    }
  }

  @Test("P29 of one answer 20 nodes count, the nearest, and of one network two")
  func oneAnswer() {
    let liar = contact(2, 0)
    let honest = (1..<20).map { contact(3, $0) }
    var lookup = lookup([liar] + honest)
    let first = asked(&lookup)
    let invented = (100..<228).map { contact($0 < 200 ? 50 : 60, $0) }
    lookup.answerReceived(from: liar, token: nil, nodes: invented)
    for address in first { lookup.queryFailed(address) }
    let all = Set(first + askedInVain(&lookup)).subtracting([liar.address])
    #expect(all.isSuperset(of: honest.map(\.address)), "nobody has been crowded out")
    #expect(all.count == 19 + 20)
    #expect(all.isDisjoint(with: invented.prefix(100).map(\.address)), "the nearest of them")
    var other = self.lookup([liar])
    let neighbours = (0..<20).map { contact(50, $0, ip: 0x3000_0001 + UInt32($0)) }
    other.answerReceived(from: liar, token: nil, nodes: neighbours)
    #expect(askedInVain(&other).count == 2)
  }

  @Test("P29 whoever names an identifier where nobody is does not hide the node that bears it")
  func wrongAddress() {
    let (liar, honest, hidden) = (contact(1, 0), contact(2, 1), contact(50, 2))
    var lookup = lookup([liar, honest])
    #expect(asked(&lookup) == [honest.address, liar.address])
    var elsewhere = hidden
    elsewhere.address = DHTAddress(ip: 0x3333_3301, port: 1)
    lookup.answerReceived(from: liar, token: nil, nodes: [elsewhere])
    #expect(asked(&lookup) == [elsewhere.address])
    lookup.answerReceived(from: honest, token: nil, nodes: [hidden, elsewhere])
    #expect(asked(&lookup) == [hidden.address])
    lookup.queryFailed(elsewhere.address)
    lookup.answerReceived(from: hidden, token: [1], nodes: [])
    #expect(lookup.tokens.map(\.contact) == [hidden] && lookup.isFinished)
  }

  @Test("P29 who has answered stays, whatever others invent")
  func answeredStay() {
    let honest = (1..<21).map { contact(3, $0) }
    var lookup = lookup(honest)
    var generation = 0
    for one in honest {
      generation += 1
      let invented = (0..<20).map { contact(20 + generation, generation * 100 + $0) }
      lookup.answerReceived(from: one, token: [1], nodes: invented)
    }
    _ = askedInVain(&lookup)
    #expect(Set(lookup.tokens.map(\.contact)) == Set(honest))
  }

  @Test("a lookup that is led on and on ends after 320 queries")
  func ledOn() {
    var lookup = lookup([contact(0, 0)])
    var queries = 0
    while let next = lookup.next(), queries < 10_000 {
      queries += 1
      let one = DHTContact(id: next.id ?? target, address: next.address)
      var nearer = contact(0, queries)
      let distance = 10_000 - queries
      let end = [UInt8(truncatingIfNeeded: distance >> 8), UInt8(truncatingIfNeeded: distance)]
      nearer.id = NodeID(prefixOf: [0xff] + [UInt8](repeating: 0, count: 17) + end)
      lookup.answerReceived(from: one, token: nil, nodes: [nearer])
    }
    #expect(queries == 320 && lookup.isFinished)
  }

  @Test(
    "P29 a private address counts only if somebody on a private network names it",
    arguments: [
      (0x3000_0001 as UInt32, 0x0a00_0001 as UInt32, 0), (0x3000_0001, 0x7f00_0001, 0),
      (0x3000_0001, 0xa9fe_0001, 0), (0x0a00_0002, 0x0a00_0001, 1), (0x7f00_0001, 0x7f00_0002, 1),
      (0x0a00_0002, 0x7f00_0001, 0), (0x7f00_0001, 0x0a00_0002, 1),
      (0x3000_0001, 0x3100_0001, 1), (0x0a00_0002, 0x3100_0001, 1),
    ])
  func localAddresses(_ source: UInt32, _ named: UInt32, _ count: Int) {
    let one = contact(1, 0, ip: source)
    var lookup = lookup([one])
    #expect(asked(&lookup).count == 1)
    lookup.answerReceived(from: one, token: nil, nodes: [contact(9, 1, ip: named)])
    #expect(asked(&lookup).count == count)
  }

  @Test("nodes where nobody can be are no nodes: 0.0.0.0/8, multicast, reserved, :: and ff00::/8")
  func unicast() {
    for ip in [0, 0x00ff_ffff, 0xe000_0000, 0xffff_ffff] as [UInt32] {
      let bytes = contact(1, 0, ip: ip)
      var compact: [UInt8] = []
      bytes.appendCompact(to: &compact)
      #expect(DHTContact.list(compact.span, 0..<compact.count, .ipv4, max: 8).isEmpty)
    }
    for (high, low): (UInt64, UInt64) in [(0, 0), (0xff02 << 48, 1)] {
      #expect(!DHTHost(high: high, low: low).isUnicast)
    }
    for host in [DHTHost(ip: 0x0100_0000), DHTHost(ip: 0xdfff_ffff), DHTHost(high: 0, low: 1)] {
      #expect(host.isUnicast)
    }
  }
}

@Suite("P29 Strangers that are checked")
struct VerificationTests {
  private func address(_ number: UInt32) -> DHTAddress {
    DHTAddress(ip: 0x3000_0001 + number, port: 1)
  }

  @Test("P29 at most two of a network, 64 in all, and nobody longer than an answer may take")
  func places() {
    var verifying = Verifications(DHTConfiguration())
    func begin(_ address: DHTAddress, isStranger: Bool = true) -> Bool {
      guard verifying.hasPlace(for: address, isStranger: isStranger) else { return false }
      verifying.begin(address, isStranger: isStranger)
      return true
    }
    #expect((0..<10 as Range<UInt32>).count { begin(address($0)) } == 2)
    #expect((1..<100 as Range<UInt32>).count { begin(address($0 << 8)) } == 62)
    #expect(begin(address(1_000 << 8), isStranger: false), "others have places of their own")
    #expect(!begin(address(1_001 << 8)))
    verifying.slow(address(0))
    #expect(begin(address(1_001 << 8)))
    verifying.slow(address(1_000 << 8))
    #expect(verifying.contains(address(1_000 << 8)))
    verifying.end(address(1_000 << 8))
    #expect(!verifying.contains(address(1_000 << 8)))
  }

  @Test("a contact whose identifier is seen elsewhere is asked twice before the other one is")
  func twice() {
    var generator = SeededGenerator(seed: 2)
    var configuration = DHTConfiguration()
    configuration.checksNodeIDs = false
    var node = DHTNode(
      id: .random(using: &generator), configuration: configuration, now: .zero,
      cryptography: .simulated, using: &generator)
    let (old, new, id) = (address(1 << 8), address(2 << 8), NodeID.random(using: &generator))
    let known = DHTContact(id: id, address: old)
    node.settle(among: [known], roundTrip: { _ in .milliseconds(40) }, now: .zero)
    func pinged() -> [DHTAddress] {
      var pinged: [DHTAddress] = []
      while let action = node.nextAction() {
        guard case .send(let bytes, let to) = action,
          case .query(let query) = try? KRPCMessage(decoding: bytes.span),
          case .success(.ping) = query.content
        else { continue }
        pinged.append(to)
      }
      return pinged
    }
    let start = Duration.seconds(100)
    node.datagramReceived(
      KRPCQuery.ping.encoded(transaction: [1], from: id).span, from: new, now: start,
      using: &generator)
    #expect(pinged() == [old])
    node.timerFired(now: start + .seconds(2), using: &generator)
    #expect(pinged() == [old] && node.contacts == [known])
    node.timerFired(now: start + .seconds(4), using: &generator)
    #expect(pinged() == [new] && node.contacts.isEmpty)
  }

  @Test("a flood of forged strangers does not keep contacts of before a restart out")
  func flood() {
    var generator = SeededGenerator(seed: 1)
    var node = DHTNode(
      id: .random(using: &generator), configuration: DHTConfiguration(), now: .zero,
      cryptography: .simulated, using: &generator)
    for number in 0..<200 as Range<UInt32> {
      let source = address(number << 8)
      let ping = KRPCQuery.ping.encoded(
        transaction: [1], from: .bound(to: source.host, using: &generator))
      node.datagramReceived(ping.span, from: source, now: .zero, using: &generator)
    }
    while node.nextAction() != nil {}
    let known = address(1_000 << 8)
    node.restore(
      [DHTContact(id: .bound(to: known.host, using: &generator), address: known)], now: .zero)
    var asked: [DHTAddress] = []
    while let action = node.nextAction() { if case .send(_, let to) = action { asked.append(to) } }
    #expect(asked == [known])
  }
}
