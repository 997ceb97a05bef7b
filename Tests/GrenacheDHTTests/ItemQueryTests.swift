import DHTSimulation
import TestSupport
import Testing

@testable import GrenacheDHT

@Suite("BEP 44: put and get, message by message")
struct ItemQueryTests {
  private let asker = DHTAddress(ip: 0x7f00_0001, port: 4_001)
  private let id = NodeID(prefixOf: [7])

  /// Puts with a good token, after some others; the error's code, or `nil`.
  private func codes(_ puts: [(DHTItem, Int64?)]) -> [Int64?] {
    var generator = SeededGenerator(seed: 2)
    var node = DHTNode(
      id: .random(using: &generator), configuration: DHTConfiguration(), now: .zero,
      cryptography: .simulated, using: &generator)
    return puts.map { item, compareAndSwap in
      let query = KRPCQuery.put(
        item, compareAndSwap: compareAndSwap, token: node.tokens.token(for: asker.host))
      node.datagramReceived(
        query.encoded(transaction: [1, 1], from: id).span, from: asker, now: .zero,
        using: &generator)
      var code: Int64?
      while let action = node.nextAction() {
        guard case .send(let bytes, _) = action, let sent = Bencode(decoding: bytes.span) else {
          continue
        }
        if let error = sent["e"]?.list?.first?.integer { code = error }
      }
      return code
    }
  }

  @Test("205, 206, 207, 301, 302")
  func errors() {
    let good = DHTItem.simulated("x", key: 1, sequence: 5)
    var forged = good
    forged.signature?.signature[3] ^= 1
    let salt64 = DHTItem.simulated(
      "x", key: 1, salt: [UInt8](repeating: 1, count: 64), sequence: 5)
    let salt65 = DHTItem.simulated(
      "x", key: 1, salt: [UInt8](repeating: 1, count: 65), sequence: 5)
    let newer = DHTItem.simulated("y", key: 1, sequence: 6)
    let same = DHTItem.simulated("z", key: 1, sequence: 5)
    func text(_ count: Int) -> DHTItem {
      DHTItem(value: Bencode(String(repeating: "x", count: count)).encoded)
    }
    #expect(codes([(text(1_000), nil), (text(1_001), nil)]) == [nil, 205])
    #expect(codes([(good, nil), (forged, nil)]) == [nil, 206])
    #expect(codes([(salt64, nil), (salt65, nil)]) == [nil, 207])
    #expect(codes([(good, nil), (newer, 4)]) == [nil, 301])
    #expect(codes([(good, nil), (newer, 5)]) == [nil, nil])
    #expect(codes([(newer, nil), (good, nil)]) == [nil, 302])
    #expect(codes([(good, nil), (same, nil)]) == [nil, 302])
    #expect(codes([(good, nil), (good, nil)]) == [nil, nil], "the same again keeps it alive")
  }

  @Test("a put is the literal that existing grapes send")
  func literal() {
    let item = DHTItem(
      value: Bencode("v").encoded,
      signature: .init(
        publicKey: [UInt8](repeating: 0x6b, count: 32), salt: [0x73], sequence: 3,
        signature: [UInt8](repeating: 0x67, count: 64)))
    let sent = KRPCQuery.put(item, compareAndSwap: 2, token: [0x74]).encoded(
      transaction: [0x61, 0x61], from: NodeID(prefixOf: [UInt8](repeating: 0x69, count: 20)))
    let expected =
      "d1:ad3:casi2e2:id20:\(String(repeating: "i", count: 20))1:k32:"
      + "\(String(repeating: "k", count: 32))4:salt1:s3:seqi3e3:sig64:"
      + "\(String(repeating: "g", count: 64))5:token1:t1:v1:ve1:q3:put1:t2:aa1:y1:qe"
    #expect(String(decoding: sent, as: UTF8.self) == expected)
  }

  @Test("what is signed, as BEP 44 gives it")
  func signed() {
    let value = Bencode("Hello World!").encoded
    let plain = DHTItem.bytesToSign(value: value, salt: [], sequence: 1)
    #expect(String(decoding: plain, as: UTF8.self) == "3:seqi1e1:v12:Hello World!")
    let salted = DHTItem.bytesToSign(value: value, salt: Array("foobar".utf8), sequence: 1)
    #expect(
      String(decoding: salted, as: UTF8.self) == "4:salt6:foobar3:seqi1e1:v12:Hello World!")
  }
}
