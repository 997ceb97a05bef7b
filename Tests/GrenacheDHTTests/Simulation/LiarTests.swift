import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

/// Names invented peers, as many as a datagram holds.
private final class Namer: Impostor {
  let contact: DHTContact
  let peers: [DHTAddress]

  init(_ contact: DHTContact, count: Int) {
    self.contact = contact
    peers = (0..<count).map {
      DHTAddress(ip: contact.address.ip &+ UInt32($0), port: UInt16(1 + $0))
    }
  }

  func received(_ datagram: [UInt8], from source: DHTAddress) -> [([UInt8], DHTAddress)] {
    guard case .query(let query) = try? KRPCMessage(decoding: datagram.span) else { return [] }
    var response = KRPCResponse(id: contact.id)
    if case .success(.getPeers) = query.content { response.peers = peers }
    response.token = [1]
    return [(response.encoded(transaction: query.transaction), source)]
  }
}

@Suite("P29 Invented peers")
struct InventedPeersTests {
  private func address(_ number: Int) -> DHTAddress {
    DHTAddress(ip: 0x3000_0001 + UInt32(number) << 16, port: 1)
  }

  /// The peers that a lookup collects from `hostile` nodes with `count` peers each and one honest one.
  private func collected(hostile: Int, count: Int) -> [DHTAddress] {
    var state = LookupState(.peers(key: [1]), [])
    for number in 0..<hostile {
      let peers = (0..<count).map { DHTAddress(ip: address(number).ip + UInt32($0), port: 9) }
      _ = state.add(peers, by: address(number), DHTConfiguration())
    }
    _ = state.add([address(200)], by: address(100), DHTConfiguration())
    return state.peers(with: [address(201)])
  }

  @Test("P29 the own store and every source in turn: nobody crowds the others out")
  func shares() {
    #expect(collected(hostile: 0, count: 0) == [address(201), address(200)])
    for hostile in [1, 5, 19] {
      let peers = collected(hostile: hostile, count: 1_000)
      #expect(peers.first == address(201))
      #expect(peers.prefix(hostile + 2).contains(address(200)), "\(hostile)")
      #expect(peers.count <= LookupState.peersMax)
    }
  }

  @Test("P29 of one answer 100 peers count, of one network 200")
  func limits() {
    #expect(collected(hostile: 1, count: 100).count == 102)
    #expect(collected(hostile: 1, count: 101).count == 102)
    var state = LookupState(.peers(key: [1]), [])
    for answer in 0..<3 {
      let peers = (0..<100).map { DHTAddress(ip: 0x0505_0505, port: UInt16(1 + answer * 100 + $0)) }
      var source = address(1)
      source.port = UInt16(answer + 1)
      _ = state.add(peers, by: source, DHTConfiguration())
    }
    #expect(state.peers(with: []).count == 200)
  }

  @Test(
    "peers that nobody can be at are left out, private ones of public nodes, and strangers' loopback",
    arguments: [
      (0x3000_0001, [0x0909_0909]), (0x0a00_0002, [0x0a00_0001, 0xc0a8_0001, 0x0909_0909]),
      (0x7f00_0001, [0x7f00_0001, 0x0a00_0001, 0xc0a8_0001, 0x0909_0909]),
    ] as [(UInt32, [UInt32])])
  func unusable(_ source: UInt32, _ expected: [UInt32]) {
    var state = LookupState(.peers(key: [1]), [])
    let peers =
      [
        0, 0x0000_0001, 0xe000_0001, 0xffff_ffff, 0x7f00_0001, 0x0a00_0001, 0xc0a8_0001,
        0x0909_0909,
      ] as [UInt32]
    let added = state.add(
      peers.map { DHTAddress(ip: $0, port: 9) }, by: DHTAddress(ip: source, port: 1),
      DHTConfiguration())
    #expect(added.map(\.ip) == expected)
  }

  @Test("P29 three nodes far from the key cannot end a lookup before the near ones are heard")
  func farAway() {
    let key: [UInt8] = Array("target".utf8)
    var configuration = DHTConfiguration()
    configuration.checksNodeIDs = false
    func contact(_ distance: Int, _ number: UInt8) -> DHTContact {
      var generator = SeededGenerator(seed: UInt64(number))
      return DHTContact(
        id: NodeID(prefixOf: key).sharing(distance, using: &generator),
        address: address(Int(number)))
    }
    let far = (0..<3 as Range<UInt8>).map { contact(3, $0) }
    let near = (10..<14 as Range<UInt8>).map { contact(40, $0) }
    var lookup = Lookup(
      target: NodeID(prefixOf: key), own: NodeID(prefixOf: []), configuration, contacts: far,
      bootstrap: [])
    while lookup.next() != nil {}
    let sources = Set((far + near.prefix(3)).map(\.address))
    lookup.answerReceived(from: far[0], token: nil, nodes: near)
    for one in far.dropFirst() { lookup.answerReceived(from: one, token: nil, nodes: []) }
    #expect(lookup.settledNetworks(among: sources) == 0)
    while lookup.next() != nil {}
    for one in near { lookup.answerReceived(from: one, token: nil, nodes: []) }
    #expect(lookup.settledNetworks(among: sources) == 6)
  }

  @Test("P29 three fast liars near the key: what honest nodes store is found nevertheless")
  func found() {
    let key = Array("target".utf8)
    var network = network(30, seed: 60)
    var generator = SeededGenerator(seed: 2)
    for number in 0..<3 {
      let address = SimulatedNetwork.address(30 + number)
      let id = NodeID.bound(to: address.host, using: &generator)
      let namer = Namer(DHTContact(id: id, address: address), count: 1_000)
      network.place(namer, number: 30 + number, at: address)
      let greeting = KRPCQuery.findNode(target: id).encoded(transaction: [1, 1], from: id)
      for honest in 0..<30 {
        network.send(greeting, from: address, to: SimulatedNetwork.address(honest))
      }
    }
    network.run(for: .seconds(20))
    _ = network.outcome(of: key, port: 9, at: 7)
    let expected = DHTAddress(host: SimulatedNetwork.address(7).host, port: 9)
    for seeker in stride(from: 0, to: 30, by: 3) {
      let peers = network.result(of: key, at: seeker)?.peers ?? []
      #expect(peers.prefix(100).contains(expected), "seeker \(seeker)")
    }
  }
}

/// Names nodes that are nowhere, nearer to a key than all others, and no peers.
private final class Distractor: Impostor {
  let contact: DHTContact
  let invented: [DHTContact]

  init(_ contact: DHTContact, _ invented: [DHTContact]) {
    self.contact = contact
    self.invented = invented
  }

  func received(_ datagram: [UInt8], from source: DHTAddress) -> [([UInt8], DHTAddress)] {
    guard case .query(let query) = try? KRPCMessage(decoding: datagram.span) else { return [] }
    var response = KRPCResponse(id: contact.id)
    response.nodes = invented
    response.token = [1]
    return [(response.encoded(transaction: query.transaction), source)]
  }
}

@Suite("P29 Invented nodes that are silent")
struct InventedNodesTests {
  @Test("P29 eighty of them near the key: what is found is known within a second, all in 4.5 s")
  func silent() throws {
    let key = Array("target".utf8)
    let target = NodeID(prefixOf: key)
    // As if identifiers that fit had been looked for, and answers took as long as they may.
    var network = network(30, seed: 61) {
      $0.checksNodeIDs = false
      $0.slowAfterMin = $0.slowAfter
    }
    var generator = SeededGenerator(seed: 3)
    _ = network.outcome(of: key, port: 9, at: 7)
    for number in 0..<4 {
      let address = SimulatedNetwork.address(30 + number)
      let contact = DHTContact(id: target.sharing(40, using: &generator), address: address)
      let invented = (0..<20).map { place in
        DHTContact(
          id: target.sharing(60 + place, using: &generator),
          address: SimulatedNetwork.address(1_000 + number * 100 + place))
      }
      network.place(Distractor(contact, invented), number: 30 + number, at: address)
      let greeting = KRPCQuery.findNode(target: contact.id).encoded(
        transaction: [1, 1], from: contact.id)
      for honest in 0..<30 {
        network.send(greeting, from: address, to: SimulatedNetwork.address(honest))
      }
    }
    network.run(for: .seconds(20))
    let expected = DHTAddress(host: SimulatedNetwork.address(7).host, port: 9)
    var heldUp = 0
    for seeker in stride(from: 0, to: 30, by: 3) {
      let start = network.now
      let begun = network.lookUp(key, at: seeker)
      let request = try #require(begun)
      network.run(for: .seconds(1)) { $0.lookupResult(request) != nil }
      if network.lookupResult(request) == nil {
        heldUp += 1
        let found = try #require(network.node(seeker)?.found(of: key, now: network.now))
        #expect(found.peers.contains(expected) && found.isIncomplete, "seeker \(seeker)")
      }
      network.run(for: .seconds(10)) { $0.lookupResult(request) != nil }
      #expect(network.lookupResult(request)?.peers.contains(expected) == true)
      #expect(network.now - start < .milliseconds(4_500), "seeker \(seeker)")
    }
    #expect(heldUp > 0)
  }
}

/// Answers every announcement, withdrawal and put with one error, and whatever else as a node would.
private final class Denier: Impostor {
  let contact: DHTContact
  let error: KRPCErrorCode
  private(set) var denials = 0

  init(_ contact: DHTContact, _ error: KRPCErrorCode) {
    self.contact = contact
    self.error = error
  }

  func received(_ datagram: [UInt8], from source: DHTAddress) -> [([UInt8], DHTAddress)] {
    guard case .query(let query) = try? KRPCMessage(decoding: datagram.span) else { return [] }
    switch query.content {
    case .success(.announcePeer), .success(.withdrawPeer), .success(.put):
      denials += 1
      return [(error.encoded(transaction: query.transaction), source)]
    case .success, .failure:
      var response = KRPCResponse(id: contact.id)
      response.nodes = []
      response.token = [1]
      return [(response.encoded(transaction: query.transaction), source)]
    }
  }
}

@Suite("BEP 44: one node's word against a put, an announcement, a withdrawal")
struct DenialTests {
  @Test(
    "what others have stored is stored, whatever one node says",
    arguments: [300, 301, 302, 304, 399])
  func oneLiar(_ code: Int64) throws {
    var network = network(10, seed: 50)
    var generator = SeededGenerator(seed: 1)
    let address = SimulatedNetwork.address(10)
    let contact = DHTContact(id: .bound(to: address.host, using: &generator), address: address)
    let denier = Denier(contact, KRPCErrorCode(code: code, message: "no"))
    network.place(denier, number: 10, at: address)
    let greeting = KRPCQuery.findNode(target: contact.id).encoded(
      transaction: [1, 1], from: contact.id)
    for number in 0..<10 {
      network.send(greeting, from: address, to: SimulatedNetwork.address(number))
    }
    network.run(for: .seconds(10))
    #expect(network.outcome(of: [1], port: 5, at: 3) == .stored(9))
    #expect(network.outcome(of: network.withdraw([1], port: 5, at: 3)) == .stored(9))
    let fixed = DHTItem(value: Bencode("kept").encoded)
    let signed = DHTItem.simulated("signed", key: 1, sequence: 5)
    for item in [fixed, signed] {
      #expect(network.outcome(of: network.put(item, at: 3)) == .stored(9))
      #expect(network.node(3)?.items[item.target(.simulated)]?.item == item)
    }
    #expect(denier.denials == 4)
  }

  @Test("BEP 5: tokens that some know no more are not used again; a liar's word is not the last")
  func staleTokens() throws {
    var network = network(10, seed: 53)
    #expect(network.outcome(of: [1], port: 5, at: 3) == .stored(9))
    for number in 0..<10 where number != 3 && number != 6 {
      network.stop(number)
      network.start(number, bootstrap: [3, 6])
      network.run(for: .milliseconds(50))
    }
    network.run(for: .seconds(10))
    // Those of one are still good.
    #expect(network.outcome(of: [1], port: 5, at: 3) == .stored(1))
    #expect(network.outcome(of: [1], port: 5, at: 3) == .stored(9))
    for number in 0..<10 { #expect(network.result(of: [1], at: number)?.peers.count == 1) }
  }

  @Test(
    "who knows a token no more that he has just given does not have others looked for each time")
  func staleTokenLiar() throws {
    var network = network(10, seed: 54)
    var generator = SeededGenerator(seed: 1)
    let address = SimulatedNetwork.address(10)
    let contact = DHTContact(id: .bound(to: address.host, using: &generator), address: address)
    network.place(Denier(contact, .badAnnounceToken), number: 10, at: address)
    let greeting = KRPCQuery.findNode(target: contact.id).encoded(
      transaction: [1, 1], from: contact.id)
    for number in 0..<10 {
      network.send(greeting, from: address, to: SimulatedNetwork.address(number))
    }
    network.run(for: .seconds(10))
    func hasTokens() -> Bool {
      network.node(3)?.tokenTables.tokens(for: [1], now: network.now).isEmpty == false
    }
    for hasTokensLeft in [true, false, true, false] {
      #expect(network.outcome(of: [1], port: 5, at: 3) == .stored(9))
      #expect(hasTokens() == hasTokensLeft)
    }
  }

  @Test("where everybody refuses, the outcome says so, and the value stays here nevertheless")
  func onlyLiars() {
    let target = DHTItem.simulated("signed", key: 1, sequence: 5).target(.simulated)
    for (code, outcome): (Int64, DHTDeliveryOutcome) in [
      (302, .refused(.sequenceTooLow)), (301, .refused(.casMismatch)), (304, .allFailed),
    ] {
      var network = SimulatedNetwork(seed: 51)
      var generator = SeededGenerator(seed: 1)
      let address = SimulatedNetwork.address(1)
      let contact = DHTContact(id: .bound(to: address.host, using: &generator), address: address)
      network.place(
        Denier(contact, KRPCErrorCode(code: code, message: "no")), number: 1, at: address)
      network.start(0, bootstrap: [1])
      network.run(for: .seconds(5))
      let signed = DHTItem.simulated("signed", key: 1, sequence: 5)
      #expect(network.outcome(of: network.put(signed, at: 0)) == outcome)
      #expect(network.node(0)?.items[target]?.item == signed)
      // An immutable value cannot be refused for another.
      let fixed = DHTItem(value: Bencode("kept").encoded)
      #expect(network.outcome(of: network.put(fixed, at: 0)) == .allFailed)
      #expect(network.outcome(of: [1], port: 5, at: 0) == .allFailed)
    }
  }

  @Test("301 and 302 when the newer item has been seen: that one is kept here then")
  func proven() {
    for compareAndSwap: Int64? in [nil, 3] {
      var network = network(40, seed: 52)
      let newer = DHTItem.simulated("newer", key: 1, sequence: 5)
      let target = newer.target(.simulated)
      #expect(network.outcome(of: network.put(newer, at: 3)) == .stored(20))
      guard let elsewhere = (0..<40).first(where: { network.node($0)?.items[target] == nil })
      else {
        Issue.record("everybody has it")
        return
      }
      let older = DHTItem.simulated("older", key: 1, sequence: 4)
      #expect(
        network.outcome(of: network.put(older, compareAndSwap: compareAndSwap, at: elsewhere))
          == .refused(compareAndSwap == nil ? .sequenceTooLow : .casMismatch))
      #expect(network.node(elsewhere)?.items[target]?.item == newer)
    }
  }
}
