import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

/// A node of both networks that knows nodes of both.
@Suite("BEP 32: one node, two networks")
struct DualStackTests {
  private static let asker4 = DHTAddress(ip: 0x7f00_0001, port: 4_001)
  private static let asker6 = DHTAddress(host: DHTHost(high: 0, low: 1), port: 4_001)
  private let id = NodeID(prefixOf: [7])
  private var generator = SeededGenerator(seed: 3)

  private mutating func node(_ families: Set<DHTFamily> = [.ipv4, .ipv6]) -> DHTNode {
    var configuration = DHTConfiguration()
    configuration.families = families
    configuration.checksNodeIDs = false
    let ids = DHTNodeIDs(
      ipv4: .random(using: &generator), ipv6: .random(using: &generator))
    var node = DHTNode(
      ids: ids, configuration: configuration, now: .zero, cryptography: .simulated,
      using: &generator)
    for number in 1...30 as ClosedRange<UInt64> {
      let hosts = [
        DHTHost(ip: 0x0900_0001 + UInt32(number) << 8),
        DHTHost(high: 0x2001_0db8_0000_0000 + number << 16, low: 1),
      ]
      for host in hosts {
        let contact = DHTContact(
          id: .random(using: &generator), address: DHTAddress(host: host, port: 1))
        node.tables[host.family].answered(contact, roundTrip: .zero, now: .zero)
      }
    }
    return node
  }

  private mutating func response(
    to query: KRPCQuery, wanting wanted: Set<DHTFamily>?, from source: DHTAddress,
    _ node: inout DHTNode
  ) throws -> KRPCResponse {
    node.datagramReceived(
      query.encoded(transaction: [1, 1], from: id, wanted: wanted).span, from: source, now: .zero,
      using: &generator)
    while let action = node.nextAction() {
      guard case .send(let bytes, let target) = action, target == source,
        case .response(_, let response) = try KRPCMessage(decoding: bytes.span)
      else { continue }
      return response
    }
    throw KRPCMessage.Drop.malformed
  }

  @Test(
    "`want` decides which nodes are named; without it, those of the network that the query came over",
    arguments: [
      (nil, asker4, 20, nil), (nil, asker6, nil, 20), ([.ipv4], asker6, 20, nil),
      ([.ipv6], asker4, nil, 20), ([.ipv4, .ipv6], asker4, 10, 10),
      ([.ipv4, .ipv6], asker6, 10, 10),
    ] as [(Set<DHTFamily>?, DHTAddress, Int?, Int?)])
  func want(
    _ wanted: Set<DHTFamily>?, _ source: DHTAddress, _ nodes: Int?, _ nodes6: Int?
  ) throws {
    var test = self
    var node = test.node()
    let target = NodeID.random(using: &test.generator)
    for query: KRPCQuery in [
      .findNode(target: target), .getPeers(key: target.bytes),
      .get(target: target.bytes, newerThan: nil),
    ] {
      let response = try test.response(to: query, wanting: wanted, from: source, &node)
      #expect(response.nodes?.count == nodes && response.nodes6?.count == nodes6)
      #expect(response.id == node.ids[source.family])
      #expect(response.nodes?.allSatisfy { $0.address.family == .ipv4 } != false)
      #expect(response.nodes6?.allSatisfy { $0.address.family == .ipv6 } != false)
    }
  }

  @Test("a node of IPv4 alone names no others, and takes nothing over IPv6")
  func ipv4Alone() throws {
    var test = self
    var node = test.node([.ipv4])
    let query = KRPCQuery.findNode(target: id)
    let response = try test.response(
      to: query, wanting: [.ipv4, .ipv6], from: Self.asker4, &node)
    #expect(response.nodes?.isEmpty == false && response.nodes6 == nil)
    #expect(throws: KRPCMessage.Drop.self) {
      try test.response(to: query, wanting: nil, from: Self.asker6, &node)
    }
  }

  @Test("of a key, an asker is told the peers of its own network (BEP 32)")
  func peers() throws {
    var test = self
    var node = test.node()
    let peers = [
      DHTAddress(ip: 0x0909_0909, port: 5),
      DHTAddress(host: DHTHost(high: 0x2001_0db8_0000_0000, low: 9), port: 6),
    ]
    for peer in peers { _ = node.keep(peer, for: [1], now: .zero) }
    let query = KRPCQuery.getPeers(key: [1])
    #expect(
      try test.response(to: query, wanting: nil, from: Self.asker4, &node).peers == [peers[0]])
    #expect(
      try test.response(to: query, wanting: nil, from: Self.asker6, &node).peers == [peers[1]])
  }

  @Test(
    "an answer with many peers fits a packet that every link carries",
    arguments: [(asker4, 100), (asker6, 52)] as [(DHTAddress, Int)])
  func manyPeers(_ source: DHTAddress, _ expected: Int) throws {
    var test = self
    var node = test.node()
    for port in 1...200 as ClosedRange<UInt16> {
      let hosts = [DHTHost(ip: 0x0909_0909), DHTHost(high: 0x2001_0db8_0000_0000, low: 9)]
      for host in hosts {
        _ = node.keep(DHTAddress(host: host, port: port), for: [1], now: .zero)
      }
    }
    while node.nextAction() != nil {}
    let query = KRPCQuery.getPeers(key: [1]).encoded(transaction: [1, 1, 1, 1, 1, 1], from: id)
    node.datagramReceived(query.span, from: source, now: .zero, using: &test.generator)
    var answers: [[UInt8]] = []
    while let action = node.nextAction() {
      if case .send(let bytes, let target) = action, target == source,
        case .response(_, let response) = try KRPCMessage(decoding: bytes.span)
      {
        #expect(response.peers?.count == expected)
        answers.append(bytes)
      }
    }
    #expect(answers.count == 1 && answers[0].count <= 1_232)
  }

  @Test("a lookup asks in both networks, each with its own identifier, and wants nodes of both")
  func lookup() throws {
    var test = self
    var node = test.node()
    _ = node.lookUp([1], now: .zero)
    var asked: [DHTFamily: Int] = [:]
    while let action = node.nextAction() {
      guard case .send(let bytes, let target) = action,
        case .query(let query) = try KRPCMessage(decoding: bytes.span)
      else { continue }
      asked[target.family, default: 0] += 1
      #expect(query.sender == node.ids[target.family])
      #expect(query.wanted == [.ipv4, .ipv6])
    }
    #expect(asked[.ipv4] == 8 && asked[.ipv6] == 8)
  }
}
