import TestSupport
import Testing

@testable import GrenacheTLS

@Suite("P20 Who is not who was meant is told nothing")
struct TLSRefusalTests {
  private struct Record: Hashable {
    var type: UInt8
    var length: Int
  }

  /// The records of a flight (RFC 8446 §5.1), which end where it ends.
  private func records(_ bytes: [UInt8]) throws -> [Record] {
    var records: [Record] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      let head = Array(rest.prefix(5))
      try #require(head.count == 5)
      let length = Int(head[3]) << 8 | Int(head[4])
      try #require(rest.count >= 5 + length)
      records.append(Record(type: head[0], length: length))
      rest = rest.dropFirst(5 + length)
    }
    return records
  }

  @Test(
    "after a refusal there is the alert, and no byte of what is written then",
    arguments: [TLSProtocols.Version.tls12, .tls13])
  func nothingButTheAlert(_ version: TLSProtocols.Version) throws {
    let authority = try TestAuthority()
    var other = try authority.worker("other")
    other.protocols.maximum = version
    let pair = try EnginePair(
      client: authority.client(), server: other, verification: .service("rpc_test"))
    pair.client.feed([])
    pair.server.feed(pair.client.takeOutput())
    pair.client.feed(pair.server.takeOutput())
    #expect(pair.client.failure?.code == .nameMismatch)
    // What a caller that does not look would do.
    try? pair.client.send(Array("[\"1\",\"rpc_test\",\"a secret\"]".utf8))
    pair.client.engine.closeNotify()
    let output = pair.client.takeOutput()
    // Of TLS 1.3, a record for middleboxes may come first (RFC 8446 §D.4).
    let said = try records(output).filter { $0 != Record(type: 20, length: 1) }
    // In the clear, or encrypted: two bytes, their type and a tag.
    let alerts = [Record(type: 21, length: 2), Record(type: 23, length: 19)]
    #expect(said.count == 1 && alerts.contains(said[0]), "\(said)")
    pair.server.feed(output)
    #expect(pair.server.received.isEmpty)
    #expect(pair.server.failure != nil)
  }
}
