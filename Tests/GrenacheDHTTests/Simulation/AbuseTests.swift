import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

/// Answers whatever it is asked with its accomplices, and stores nothing.
private final class Sybil: Impostor {
  let contact: DHTContact
  /// Twice, so that twenty of them can be taken from any place on.
  var accomplices: [DHTContact] = []
  private var turn: Int

  init(_ contact: DHTContact, turn: Int) {
    self.contact = contact
    self.turn = turn
  }

  func received(_ datagram: [UInt8], from source: DHTAddress) -> [([UInt8], DHTAddress)] {
    guard case .query(let query) = try? KRPCMessage(decoding: datagram.span) else { return [] }
    var response = KRPCResponse(id: contact.id)
    turn = (turn + 7) % (accomplices.count / 2)
    response.nodes = Array(accomplices[turn..<(turn + 20)])
    response.token = [1]
    if case .success(.announcePeer) = query.content { response.nodes = nil }
    return [(response.encoded(transaction: query.transaction), source)]
  }

  /// Pretends to be interested, so that others take it into their tables.
  func greet(_ address: DHTAddress) -> [UInt8] {
    KRPCQuery.findNode(target: contact.id).encoded(transaction: [1, 1], from: contact.id)
  }
}

@Suite("P29 Sybil and eclipse")
struct SybilTests {
  /// 50 honest nodes, and 100 Sybils in two /24s that have greeted all of them.
  private func attacked(
    seed: UInt64, checksNodeIDs: Bool, key: [UInt8]
  ) -> SimulatedNetwork {
    var network = SimulatedNetwork(seed: seed)
    var generator = SeededGenerator(seed: seed &+ 1)
    var sybils: [Sybil] = []
    for number in 0..<100 {
      let host = DHTHost(ip: 0x5000_0001 + UInt32(number / 50) << 8 + UInt32(number % 50))
      // Where identifiers are free, they sit right at the key.
      let id =
        checksNodeIDs
        ? NodeID.bound(to: host, using: &generator)
        : NodeID(prefixOf: key).sharing(150, using: &generator)
      let contact = DHTContact(id: id, address: DHTAddress(host: host, port: 1))
      sybils.append(Sybil(contact, turn: number))
    }
    for sybil in sybils { sybil.accomplices = (sybils + sybils).map(\.contact) }
    for number in 0..<50 {
      network.start(number, bootstrap: [0, 1].filter { $0 != number }) {
        $0.checksNodeIDs = checksNodeIDs
      }
      network.run(for: .milliseconds(20))
    }
    for (number, sybil) in sybils.enumerated() {
      network.place(sybil, number: 50 + number, at: sybil.contact.address)
    }
    for honest in 0..<50 {
      for sybil in sybils {
        network.send(
          sybil.greet(sybil.contact.address), from: sybil.contact.address,
          to: SimulatedNetwork.address(honest))
      }
      network.run(for: .milliseconds(200))
    }
    network.run(for: .seconds(10))
    return network
  }

  @Test(
    "P29 100 Sybils in two /24s among 50 honest nodes: 99 % of lookups succeed",
    arguments: [true, false])
  func lookups(checksNodeIDs: Bool) {
    var succeeded = 0
    var tried = 0
    for seed in 0..<2 {
      let key = Array("target".utf8)
      var network = attacked(seed: UInt64(seed), checksNodeIDs: checksNodeIDs, key: key)
      for announcer in [7, 23] { _ = network.outcome(of: key, port: 9, at: announcer) }
      for seeker in 0..<50 {
        tried += 1
        let peers = network.result(of: key, at: seeker)?.peers ?? []
        let expected = [7, 23].map {
          DHTAddress(host: SimulatedNetwork.address($0).host, port: 9)
        }
        if expected.contains(where: peers.contains) { succeeded += 1 }
      }
    }
    #expect(succeeded * 100 >= tried * 99, "\(succeeded) of \(tried)")
  }

  @Test("P29 at most two of them in a bucket of anybody")
  func buckets() throws {
    let network = attacked(seed: 9, checksNodeIDs: true, key: [1])
    for number in 0..<50 {
      let node = try #require(network.node(number))
      var counts: [[UInt64]: Int] = [:]
      for contact in node.contacts {
        let bucket = node.id.distance(to: contact.id).leadingZeroBitCount
        counts[[UInt64(bucket), contact.address.host.prefix], default: 0] += 1
      }
      #expect((counts.values.max() ?? 0) <= 2)
    }
  }
}

@Suite("P30 The DHT is no amplifier")
struct AmplificationTests {
  private let victim = DHTAddress(ip: 0x0808_0808, port: 53)

  /// A node that knows 29 others, 300 peers of a key and a large value.
  private func rich(queriesMax: Int = 100) -> (SimulatedNetwork, target: [UInt8]) {
    let network = network(30, seed: 30) {
      $0.families = [.ipv4, .ipv6]
      $0.queriesPerSecondMax = queriesMax
      $0.queriesPerSecondOfPrefixMax = max(400, queriesMax)
    }
    let item = DHTItem(value: Bencode(String(repeating: "x", count: 1_000)).encoded)
    network.nodes[5].change { node in
      for port in 1...300 {
        _ = node.keep(
          DHTAddress(ip: 0x0909_0909, port: UInt16(port)), for: [1], now: .seconds(1_000))
      }
      _ = node.put(item, compareAndSwap: nil, now: .seconds(1_000))
      while node.nextAction() != nil {}
    }
    return (network, item.target(.simulated))
  }

  /// Bytes that node 5 sends to the victim for so many bytes of queries that seem to come from it.
  private func flood(_ query: KRPCQuery, count: Int) -> (sent: Int, answered: Int, answers: Int) {
    var network = rich().0
    let forged = query.encoded(transaction: [1, 1], from: NodeID(prefixOf: [1]))
    let listener = Listener()
    network.place(listener, number: 30, at: victim)
    for _ in 0..<count { network.inject(forged, from: victim, to: 5) }
    network.run(for: .seconds(5))
    return (forged.count * count, listener.bytes, listener.answers)
  }

  private final class Listener: Impostor {
    var bytes = 0
    var answers = 0

    func received(_ datagram: [UInt8], from source: DHTAddress) -> [([UInt8], DHTAddress)] {
      bytes += datagram.count
      if case .response = try? KRPCMessage(decoding: datagram.span) { answers += 1 }
      return []
    }
  }

  @Test("P30 one address: at most 100 answers a second, and four bytes for one but for 4 KiB")
  func forged() {
    let (_, target) = rich()
    let queries: [KRPCQuery] = [
      .findNode(target: NodeID(prefixOf: [1])), .getPeers(key: [1]), .getPeers(key: [2]),
      .get(target: target, newerThan: nil), .ping,
    ]
    for query in queries {
      let (sent, answered, answers) = flood(query, count: 1_000)
      #expect(answers <= 100, "\(query)")
      // A few pings, to see whether it is there, come on top.
      #expect(answered <= sent / 10 * 4 + 4_096 + 1_400, "\(query): \(answered) for \(sent)")
    }
  }

  /// The bytes of the answer to a query that is as small as can be, after the second's extra is spent;
  /// as asked by a stranger, or by a contact.
  private func answerBytes(_ query: String, isContact: Bool) throws -> Int {
    var node = try #require(rich(queriesMax: 10_000).0.nodes[5].node)
    var generator = SeededGenerator(seed: 1)
    let source = isContact ? try #require(node.contacts.first?.address) : victim
    var bytes = 0
    for spent in 0..<2_000 {
      let now = Duration.seconds(1_001) + .microseconds(spent)
      node.datagramReceived(Array(query.utf8).span, from: source, now: now, using: &generator)
      while let action = node.nextAction() {
        // An answer without a transaction identifier is none that our own decoder takes.
        guard case .send(let sent, let to) = action, to == source,
          sent.starts(with: Array("d2:ip".utf8))
        else { continue }
        bytes = sent.count
      }
    }
    return bytes
  }

  @Test(
    "P30 queries made as small as can be: at most four bytes for one, without a floor",
    arguments: [
      "d1:ad6:target0:e1:q9:find_node1:y1:qe",
      "d1:ad6:target0:4:wantl2:n42:n6ee1:q9:find_node1:y1:qe",
      "d1:ad9:info_hash1:\u{1}e1:q9:get_peers1:y1:qe",
      "d1:ad9:info_hash1:\u{2}e1:q9:get_peers1:y1:qe",
      "d1:ad6:target0:e1:q3:get1:y1:qe",
    ])
  func minimal(_ query: String) throws {
    let bytes = try answerBytes(query, isContact: false)
    #expect(bytes > 0 && bytes <= query.utf8.count * 4, "\(bytes) for \(query.utf8.count)")
  }

  @Test(
    "P30 what comes in a contact's name has a budget, too, unless a token shows that it is its own",
    arguments: [(true, true), (true, false), (false, true), (false, false)])
  func contacts(isContact: Bool, hasToken: Bool) throws {
    let id = try #require(rich().0.nodes[5].node?.contacts.first?.id)
    var generator = SeededGenerator(seed: 1)
    let query = KRPCQuery.findNode(target: .random(using: &generator)).encoded(
      transaction: [1, 1, 1, 1, 1, 1], from: id)
    var node = try #require(rich(queriesMax: 10_000).0.nodes[5].node)
    let source = isContact ? try #require(node.contacts.first?.address) : victim
    if hasToken {
      let announcement = KRPCQuery.announcePeer(
        key: [9], port: 1, impliedPort: false, token: node.tokens.token(for: source.host))
      node.datagramReceived(
        announcement.encoded(transaction: [1, 1], from: id).span, from: source,
        now: .seconds(800), using: &generator)
      while node.nextAction() != nil {}
    }
    var sent = 0
    var nodes = 0
    for number in 0..<2_000 {
      node.datagramReceived(
        query.span, from: source, now: .seconds(1_001) + .microseconds(number),
        using: &generator)
      while let action = node.nextAction() {
        guard case .send(let bytes, let to) = action, to == source,
          case .response(_, let response) = try? KRPCMessage(decoding: bytes.span)
        else { continue }
        sent += bytes.count
        nodes = response.nodes?.count ?? 0
      }
    }
    #expect(nodes >= 8, "to a query of full size")
    let extra = isContact && hasToken ? 262_144 : 4_096
    #expect(sent <= query.count * 2_000 * 4 + extra)
    #expect(sent > query.count * 2_000 + extra / 2)
  }

  @Test("P30 a value asked for in the name of each of a victim's 256 addresses, or of 16,384")
  func forgedNetwork() throws {
    let (network, target) = rich(queriesMax: 10_000)
    let query = KRPCQuery.get(target: target, newerThan: nil).encoded(
      transaction: [1, 1], from: NodeID(prefixOf: [1]))
    for (networks, extra) in [(1, 16_384), (64, 524_288)] {
      var node = try #require(network.nodes[5].node)
      var generator = SeededGenerator(seed: 1)
      var (received, sent) = (0, 0)
      for number in 0..<(networks * 256) {
        let source = DHTAddress(ip: 0x0808_0000 + UInt32(number), port: 53)
        node.datagramReceived(
          query.span, from: source, now: .seconds(1_001), using: &generator)
        received += query.count
        while let action = node.nextAction() {
          if case .send(let bytes, _) = action { sent += bytes.count }
        }
      }
      // A few pings to strangers come on top.
      #expect(sent <= received * 4 + extra + 20_000)
    }
  }

  @Test("the bytes beyond four for one: of an address, of a prefix, of all strangers, of contacts")
  func extraBytes() {
    var configuration = DHTConfiguration()
    configuration.unprovenExtraBytesPerSecond = 100
    configuration.unprovenExtraBytesPerSecondOfPrefix = 150
    configuration.unprovenExtraBytesPerSecondOfAll = 200
    configuration.contactExtraBytesPerSecond = 1_000
    configuration.contactExtraBytesPerSecondOfAll = 1_150
    var limiter = RateLimiter(configuration)
    /// What is left of a large answer.
    func spend(_ ip: UInt32, isContact: Bool = false, at second: Int = 0) -> Int {
      let (host, now) = (DHTHost(ip: ip), Duration.seconds(second))
      let bytes = limiter.allowance(host, isContact: isContact, queryBytes: 10, now: now)
      limiter.spend(host, isContact: isContact, answerBytes: bytes, queryBytes: 10)
      return bytes - 40
    }
    #expect(spend(0x0101_0101) == 100 && spend(0x0101_0101) == 0)
    #expect(spend(0x0101_0102) == 50 && spend(0x0101_0103) == 0)
    #expect(spend(0x0202_0202) == 50 && spend(0x0303_0303) == 0)
    #expect(spend(0x0404_0404, isContact: true) == 100, "nothing shows that it is there")
    limiter.tokenReceived(from: DHTHost(ip: 0x0404_0404), now: .zero)
    #expect(spend(0x0404_0404, isContact: true) == 900)
    #expect(spend(0x0505_0505, isContact: true) == 100)
    #expect(spend(0x0606_0606, isContact: true) == 50)
    #expect(spend(0x0404_0404, isContact: true, at: 299) == 1_000)
    #expect(spend(0x0404_0404, isContact: true, at: 300) == 100)
    #expect(spend(0x0101_0101, at: 300) == 100, "anew")
  }

  @Test("the places for those who have echoed a token are for contacts")
  func provenPlaces() throws {
    let network = network(4, seed: 31) { $0.countedAddressesMax = 2 }
    var node = try #require(network.nodes[2].node)
    var generator = SeededGenerator(seed: 1)
    func announce(_ id: NodeID, from source: DHTAddress) {
      let query = KRPCQuery.announcePeer(
        key: [9], port: 1, impliedPort: false, token: node.tokens.token(for: source.host))
      node.datagramReceived(
        query.encoded(transaction: [1, 1], from: id).span, from: source, now: network.now,
        using: &generator)
    }
    for ip in 1...9 as ClosedRange<UInt32> {
      announce(NodeID(prefixOf: [1]), from: DHTAddress(ip: 0x0808_0008 + ip << 8, port: 53))
    }
    let contact = try #require(node.contacts.first)
    announce(contact.id, from: contact.address)
    #expect(node.storedCount == 10)
    let bytes = node.limiter.allowance(
      contact.address.host, isContact: true, queryBytes: 0, now: network.now)
    #expect(bytes == 262_144)
  }

  @Test("a full table of who has echoed a token is looked through once a second")
  func provenSweep() {
    var configuration = DHTConfiguration()
    configuration.countedAddressesMax = 2
    var limiter = RateLimiter(configuration)
    func proves(_ ip: UInt32, at milliseconds: Int) -> Bool {
      let (host, now) = (DHTHost(ip: ip), Duration.milliseconds(milliseconds))
      limiter.tokenReceived(from: host, now: now)
      let bytes = limiter.allowance(host, isContact: true, queryBytes: 0, now: now)
      return bytes == configuration.contactExtraBytesPerSecond
    }
    #expect(proves(1, at: 0) && proves(2, at: 500))
    #expect(!proves(3, at: 299_000))
    #expect(proves(3, at: 300_100), "the first is forgotten")
    #expect(!proves(4, at: 300_600), "the second has expired, too, but who looks")
    #expect(proves(2, at: 300_700), "renewed")
    #expect(!proves(4, at: 301_100) && proves(3, at: 301_100))
  }

  @Test("a flood from forged addresses does not keep contacts from being answered")
  func flood() {
    var limiter = RateLimiter(DHTConfiguration())
    let contact = DHTHost(ip: 0x0909_0909)
    for number in 0..<20_000 as Range<UInt32> {
      let host = DHTHost(ip: 0x2000_0000 + number << 8)
      _ = limiter.admits(host, isContact: false, now: .zero)
      _ = limiter.allowance(host, isContact: false, queryBytes: 100, now: .zero)
      limiter.spend(host, isContact: false, answerBytes: 4_500, queryBytes: 100)
    }
    let stranger = limiter.admits(DHTHost(ip: 0x0a0a_0a0a), isContact: false, now: .zero)
    #expect(!stranger)
    let answered = (0..<3_000).count { _ in
      limiter.admits(contact, isContact: true, now: .zero)
    }
    let bytes = limiter.allowance(contact, isContact: true, queryBytes: 100, now: .zero)
    #expect(answered == 2_000 && bytes == 400 + 4_096)
  }

  @Test("P30 loopback peers are for loopback; others get them at the address that others have seen")
  func loopbackPeers() throws {
    var node = try #require(rich().0.nodes[5].node)
    var generator = SeededGenerator(seed: 1)
    _ = node.keep(DHTAddress(ip: 0x7f00_0001, port: 7), for: [3], now: .seconds(1_000))
    let query = KRPCQuery.getPeers(key: [3]).encoded(
      transaction: [1, 1], from: NodeID(prefixOf: []))
    func peers(for source: DHTAddress) -> [DHTAddress]? {
      node.datagramReceived(query.span, from: source, now: .seconds(1_001), using: &generator)
      var found: [DHTAddress]?
      while let action = node.nextAction() {
        if case .send(let bytes, let to) = action, to == source,
          case .response(_, let response) = try? KRPCMessage(decoding: bytes.span)
        {
          found = response.peers
        }
      }
      return found
    }
    let own = SimulatedNetwork.address(5).host
    #expect(node.external[.ipv4]?.host == own)
    #expect(peers(for: victim) == [DHTAddress(host: own, port: 7)])
    #expect(
      peers(for: DHTAddress(ip: 0x7f00_0002, port: 9)) == [DHTAddress(ip: 0x7f00_0001, port: 7)])
    node.external[.ipv4] = nil
    #expect(peers(for: victim) == nil)
  }

  @Test("P30 values are at most 1,000 bytes, and an answer fits one frame")
  func largest() {
    let (network, target) = rich()
    var node = network.nodes[5].node
    var generator = SeededGenerator(seed: 1)
    let mutable = DHTItem.simulated(
      String(repeating: "x", count: 1_000), key: 1, sequence: .max)
    _ = node?.put(mutable, compareAndSwap: nil, now: .seconds(1_000))
    for number in 0..<30 {
      let host = DHTHost(high: 0x2001_0db8_0000_0000 + UInt64(number) << 16, low: 1)
      let contact = DHTContact(
        id: .bound(to: host, using: &generator), address: DHTAddress(host: host, port: 1))
      node?.tables[.ipv6].answered(contact, roundTrip: .zero, now: .seconds(1_000))
    }
    let local = DHTAddress(ip: 0x7f00_0001, port: 9)
    for query: KRPCQuery in [
      .get(target: target, newerThan: nil), .getPeers(key: [1]),
      .get(target: mutable.target(.simulated), newerThan: nil),
    ] {
      for wanted: Set<DHTFamily> in [[.ipv4], [.ipv6], [.ipv4, .ipv6]] {
        node?.datagramReceived(
          query.encoded(transaction: [1, 1], from: NodeID(prefixOf: [1]), wanted: wanted).span,
          from: local, now: .seconds(1_000), using: &generator)
        while let action = node?.nextAction() {
          if case .send(let bytes, let to) = action, to == local {
            #expect(bytes.count <= 1_472)
          }
        }
      }
    }
  }

  @Test("the limits of addresses and prefixes, at them and one past")
  func limits() {
    var configuration = DHTConfiguration()
    configuration.queriesPerSecondMax = 3
    configuration.queriesPerSecondOfContactMax = 5
    configuration.queriesPerSecondOfPrefixMax = 7
    configuration.countedAddressesMax = 4
    var limiter = RateLimiter(configuration)
    func admitted(_ ip: UInt32, isContact: Bool = false, _ count: Int, at now: Duration) -> Int {
      (0..<count).count { _ in
        limiter.admits(DHTHost(ip: ip), isContact: isContact, now: now)
      }
    }
    #expect(admitted(0x0101_0101, 10, at: .zero) == 3)
    #expect(admitted(0x0101_0102, 10, at: .zero) == 3)
    #expect(admitted(0x0101_0103, 10, at: .zero) == 1, "the prefix")
    #expect(admitted(0x0202_0202, isContact: true, 10, at: .zero) == 5)
    #expect(admitted(0x0303_0303, 10, at: .zero) == 3, "the last that is counted by itself")
    #expect(admitted(0x0404_0404, 10, at: .zero) == 3, "counted with all others")
    #expect(admitted(0x0505_0505, 10, at: .zero) == 0, "which share one allowance")
    #expect(admitted(0x0606_0606, isContact: true, 10, at: .zero) == 5, "contacts do not")
    #expect(admitted(0x7f00_0001, 100, at: .zero) == 100, "loopback")
    #expect(admitted(0x0101_0101, 10, at: .seconds(1)) == 3)
  }

  @Test("P30 announcements of one address and of one key are bounded")
  func caps() {
    var configuration = DHTConfiguration()
    configuration.peersPerAddressMax = 3
    configuration.peersPerKeyMax = 5
    var store = PeerStore(configuration)
    var kept = 0
    for ip in 1...10 as ClosedRange<UInt32> {
      for port in 1...10 as ClosedRange<UInt16> {
        let peer = DHTAddress(ip: ip, port: port)
        if (try? store.insert(peer, for: [1], now: .zero))?.isNew == true { kept += 1 }
      }
    }
    #expect(kept == 5)
    #expect(throws: PeerStore.Refusal.addressLimit) {
      try store.insert(DHTAddress(ip: 1, port: 99), for: [2], now: .zero)
    }
  }
}
