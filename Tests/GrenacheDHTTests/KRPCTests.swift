import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

private let now = Duration.seconds(1)
private let stranger = DHTAddress(ip: 0x7f00_0001, port: 4_001)

private func bytes(_ text: String) -> [UInt8] { text.unicodeScalars.map { UInt8($0.value & 255) } }

/// A node with an identifier of twenty `n`, and what it sends in answer to one datagram.
private func answers(_ datagram: [UInt8], node: inout DHTNode) -> [[UInt8]] {
  var generator = SeededGenerator(seed: 1)
  node.datagramReceived(datagram.span, from: stranger, now: now, using: &generator)
  var sent: [[UInt8]] = []
  while let action = node.nextAction() {
    if case .send(let bytes, let to) = action, to == stranger { sent.append(bytes) }
  }
  return sent
}

private func makeNode(_ configuration: DHTConfiguration = DHTConfiguration()) -> DHTNode {
  var generator = SeededGenerator(seed: 2)
  let id = NodeID([UInt8](repeating: UInt8(ascii: "n"), count: 20)) ?? .random(using: &generator)
  return DHTNode(
    id: id, configuration: configuration, now: .zero, cryptography: .simulated, using: &generator)
}

/// The first answer that is no ping of the stranger.
private func answer(_ text: String) -> String? {
  var node = makeNode()
  let sent = answers(bytes(text), node: &node).first { !$0.starts(with: bytes("d1:ad2:id")) }
  return sent.map { String(String.UnicodeScalarView($0.map { Unicode.Scalar($0) })) }
}

private let id20 = "aaaaaaaaaaaaaaaaaaaa"
private let own = "nnnnnnnnnnnnnnnnnnnn"

@Suite("BEP 5: answers, byte for byte")
struct KRPCAnswerTests {
  @Test(
    "what is answered, and how",
    arguments: [
      ("d1:ad2:id20:\(id20)e1:q4:ping1:t2:aa1:y1:qe", "d1:rd2:id20:\(own)e1:t2:aa1:y1:re"),
      ("d1:ad2:id20:\(id20)e1:q4:ping1:t0:1:y1:qe", "d1:rd2:id20:\(own)e1:t0:1:y1:re"),
      (
        "d1:ad2:id20:\(id20)e1:q4:ping1:t8:abcdefgh1:y1:qe",
        "d1:rd2:id20:\(own)e1:t8:abcdefgh1:y1:re"
      ),
      ("d1:ad2:id20:\(id20)e1:q4:ping1:y1:qe", "d1:rd2:id20:\(own)e1:y1:re"),
      ("d1:y1:q1:q4:ping1:t2:aa1:ad2:id20:\(id20)ee", "d1:rd2:id20:\(own)e1:t2:aa1:y1:re"),
      ("d1:ad2:id20:\(id20)e1:q4:ping1:t2:aa1:y1:qetrailing", "d1:rd2:id20:\(own)e1:t2:aa1:y1:re"),
      (
        "d1:ad2:id20:\(id20)6:target20:\(id20)e1:q9:find_node1:t2:aa1:y1:qe",
        "d1:rd2:id20:\(own)5:nodes0:e1:t2:aa1:y1:re"
      ),
      (
        "d1:ad2:id20:\(id20)e1:q9:find_node1:t2:aa1:y1:qe",
        "d1:eli203e45:`find_node` missing required `a.target` fielde1:t2:aa1:y1:ee"
      ),
      (
        "d1:ad2:id20:\(id20)e1:q9:get_peers1:t2:aa1:y1:qe",
        "d1:eli203e48:`get_peers` missing required `a.info_hash` fielde1:t2:aa1:y1:ee"
      ),
      (
        "d1:ad2:id20:\(id20)9:info_hash3:svc4:porti1e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe",
        "d1:eli203e37:cannot `announce_peer` with bad tokene1:t2:aa1:y1:ee"
      ),
      (
        "d1:ad2:id20:\(id20)6:target3:abce1:q3:get1:t2:aa1:y1:qe",
        "d1:rd2:id20:\(own)5:nodes0:5:token20:Te1:t2:aa1:y1:re"
      ),
      (
        "d1:ad2:id20:\(id20)5:token1:x1:v1:ae1:q3:put1:t2:aa1:y1:qe",
        "d1:eli203e27:cannot `put` with bad tokene1:t2:aa1:y1:ee"
      ),
      (
        "d1:ad2:id20:\(id20)e1:q5:other1:t2:aa1:y1:qe", "d1:eli204e14:method unknowne1:t2:aa1:y1:ee"
      ),
    ])
  func answered(_ query: String, _ expected: String) {
    let answer = answer(query)
    let parts = expected.split(separator: "T")
    guard parts.count == 2 else {
      #expect(answer == expected)
      return
    }
    #expect(answer?.hasPrefix(parts[0]) == true)
    #expect(answer?.hasSuffix(parts[1]) == true)
    #expect(answer?.unicodeScalars.count == expected.unicodeScalars.count - 1 + 20)
  }

  @Test(
    "203 for arguments that are missing or of the wrong type: much of it ends an existing grape",
    arguments: [
      "d1:ad2:id20:\(id20)6:targeti1ee1:q9:find_node1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)9:info_hashi1ee1:q9:get_peers1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)9:info_hashl1:aee1:q9:get_peers1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)9:info_hash3:svc4:porti1e5:tokeni1ee1:q13:announce_peer1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)6:targeti1ee1:q3:get1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)e1:q3:get1:t2:aa1:y1:qe", "d1:ad2:id20:\(id20)e1:q3:put1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)5:tokeni1e1:v1:ae1:q3:put1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)1:k1:x5:token1:x1:v1:ae1:q3:put1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)9:info_hash3:svc4:porti0e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)9:info_hash3:svc4:porti70000e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)9:info_hash3:svc4:porti-1e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)9:info_hash3:svc4:porti1ee1:q13:announce_peer1:t2:aa1:y1:qe",
    ])
  func invalidArguments(_ query: String) {
    let expected =
      "d1:eli203e43:an argument is missing or of the wrong typee1:t2:aa1:y1:ee"
    #expect(answer(query) == expected)
  }

  @Test(
    "what is dropped: among it everything that ends an existing grape",
    arguments: [
      "", "garbage", "d", "le", "i1e", "d1:y1:qe", "d1:ad2:id20:\(id20)e1:t2:aa1:y1:qe",
      "d1:q4:ping1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)e1:q4:ping1:t2:aa1:y1:xe", "d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe",
      "d1:ad2:idi1ee1:q4:ping1:t2:aa1:y1:qe", "d1:ad2:id20:\(id20)e1:q4:ping1:ti1e1:y1:qe",
      "d1:rd2:id20:\(id20)e1:t2:aa1:y1:re", "d1:eli201e1:xe1:t2:aa1:y1:ee",
      "d1:rd2:id20:\(id20)e1:y1:re", "d1:el1:xe1:t2:aa1:y1:ee", "d1:e1:x1:t2:aa1:y1:ee",
    ])
  func dropped(_ datagram: String) {
    #expect(answer(datagram) == nil)
  }

  @Test("a token lets its address announce; values or nodes, never both")
  func announce() throws {
    var node = makeNode()
    let ask = bytes("d1:ad2:id20:\(id20)9:info_hash3:svce1:q9:get_peers1:t2:aa1:y1:qe")
    let first = try #require(
      answers(ask, node: &node).first { Bencode(decoding: $0.span)?["r"] != nil })
    let values = try #require(Bencode(decoding: first.span)?["r"])
    let token = try #require(values["token"]?.bytes)
    #expect(token.count == 20)
    #expect(values["nodes"] != nil && values["values"] == nil)
    let announce =
      bytes("d1:ad2:id20:\(id20)12:implied_porti0e9:info_hash3:svc4:porti4001e5:token20:") + token
      + bytes("e1:q13:announce_peer1:t2:\u{0}\u{4}1:y1:qe")
    let reply = answers(announce, node: &node)
    #expect(reply.contains(bytes("d1:rd2:id20:\(own)e1:t2:\u{0}\u{4}1:y1:re")))
    let second = answers(ask, node: &node).compactMap { Bencode(decoding: $0.span)?["r"] }
    let peers = second.compactMap { $0["values"]?.list }.first
    #expect(peers == [.bytes([0x7f, 0, 0, 1, 0x0f, 0xa1])])
    #expect(second.allSatisfy { $0["values"] == nil || $0["nodes"] == nil })
  }

  @Test("our announcement is the literal that existing grapes send")
  func outgoing() {
    let id = NodeID(Array(id20.utf8)) ?? NodeID(prefixOf: [])
    let query = KRPCQuery.announcePeer(
      key: Array("svc".utf8), port: 4_001, impliedPort: false,
      token: [UInt8](repeating: UInt8(ascii: "t"), count: 20))
    let expected =
      "d1:ad2:id20:\(id20)12:implied_porti0e9:info_hash3:svc4:porti4001e5:token20:"
      + "tttttttttttttttttttte1:q13:announce_peer1:t2:\u{0}\u{4}1:y1:qe"
    #expect(query.encoded(transaction: [0, 4], from: id) == bytes(expected))
  }

  @Test("a stranger enters the routing table only after it has answered a ping, fix 14")
  func verification() throws {
    var node = makeNode()
    let sent = answers(bytes("d1:ad2:id20:\(id20)e1:q4:ping1:t2:aa1:y1:qe"), node: &node)
    #expect(sent.count == 2)
    #expect(node.contactCount == 0)
    let ping = try #require(sent.compactMap { Bencode(decoding: $0.span) }.first { $0["q"] != nil })
    let transaction = try #require(ping["t"]?.bytes)
    let pong = bytes("d1:rd2:id20:\(id20)e1:t6:") + transaction + bytes("1:y1:re")
    _ = answers(pong, node: &node)
    #expect(node.contactCount == 1)
    // The same answer once more is nobody's.
    _ = answers(pong, node: &node)
    #expect(node.statistics.unexpectedResponses == 1)
  }

  @Test("transaction identifiers: six bytes, of which a forger would have to guess four")
  func transactions() throws {
    var node = makeNode()
    var seen: Set<[UInt8]> = []
    for number in 0..<50 {
      let id = String(repeating: String(UnicodeScalar(UInt8(65 + number % 26))), count: 20)
      let ask = bytes("d1:ad2:id20:\(id)e1:q4:ping1:t2:aa1:y1:qe")
      let ping = answers(ask, node: &node).compactMap { Bencode(decoding: $0.span) }.first {
        $0["q"] != nil
      }
      guard let transaction = ping?["t"]?.bytes else { continue }
      #expect(transaction.count == 6)
      #expect(seen.insert(Array(transaction.dropFirst(2))).inserted)
      // Neither without the tag nor with another one.
      var other = transaction
      other[5] ^= 1
      for forged in [Array(transaction.prefix(2)), other] {
        let before = node.statistics.unexpectedResponses
        let pong =
          bytes("d1:rd2:id20:\(id)e1:t\(forged.count):") + forged + bytes("1:y1:re")
        _ = answers(pong, node: &node)
        #expect(node.statistics.unexpectedResponses == before + 1)
      }
      _ = answers(
        bytes("d1:rd2:id20:\(id)e1:t6:") + transaction + bytes("1:y1:re"), node: &node)
    }
    #expect(seen.count >= 20 && node.contactCount >= 15)
  }

  @Test("mutated datagrams: no trap, and never more than two answers")
  func mutations() {
    var generator = SeededGenerator(seed: 4)
    var node = makeNode()
    let vectors = [
      "d1:ad2:id20:\(id20)9:info_hash3:svce1:q9:get_peers1:t2:aa1:y1:qe",
      "d1:ad2:id20:\(id20)12:implied_porti0e9:info_hash3:svc4:porti4001e5:token20:\(id20)e"
        + "1:q13:announce_peer1:t2:aa1:y1:qe",
      "d1:rd2:id20:\(id20)5:nodes26:\(id20)abcdef5:token2:xx6:valuesl6:abcdefee1:t2:aa1:y1:re",
    ].map(bytes)
    for _ in 0..<30_000 {
      var input = vectors.randomElement(using: &generator) ?? []
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<input.count, using: &generator)
        input[index] = UInt8.random(in: 0...255, using: &generator)
      }
      #expect(answers(input, node: &node).count <= 2)
    }
  }
}
