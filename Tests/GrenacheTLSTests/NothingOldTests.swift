import TestSupport
import Testing

@testable import GrenacheTLS

/// A record of one handshake message, taken apart as far as the tests change it (RFC 8446 §4.1).
private struct HelloRecord {
  /// Where the cipher suites begin in the record.
  private(set) var bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Behind record head, message head, version, random and session.
  private var afterSession: Int { 9 + 34 + 1 + Int(bytes[9 + 34]) }

  /// The compression method that a ServerHello has chosen.
  var chosenCompression: UInt8 { bytes[afterSession + 2] }

  /// Puts other compression methods into a ClientHello.
  mutating func offer(compression methods: [UInt8]) {
    let start = afterSession
    let count = 2 + Int(bytes[start]) << 8 + Int(bytes[start + 1])
    let place = start + count
    let old = 1 + Int(bytes[place])
    bytes.replaceSubrange(place..<(place + old), with: [UInt8(methods.count)] + methods)
    let message = bytes.count - 9
    bytes[3] = UInt8((message + 4) >> 8)
    bytes[4] = UInt8(truncatingIfNeeded: message + 4)
    bytes[7] = UInt8(message >> 8)
    bytes[8] = UInt8(truncatingIfNeeded: message)
  }
}

@Suite("P24 Nothing old")
struct NothingOldTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func pair(_ version: TLSProtocols.Version) throws -> EnginePair {
    var server = try authority.host()
    server.protocols.maximum = version
    var client = try authority.client()
    client.protocols.maximum = version
    return try EnginePair(client: client, server: server)
  }

  @Test(
    "compression that is offered is not chosen in TLS 1.2, and refused in TLS 1.3 (RFC 8446 §4.1.2)"
  )
  func compression() throws {
    for version in [TLSProtocols.Version.tls12, .tls13] {
      let pair = try pair(version)
      pair.client.feed([])
      var hello = HelloRecord(pair.client.takeOutput())
      hello.offer(compression: [1, 0])
      pair.server.feed(hello.bytes)
      if version == .tls12 {
        #expect(pair.server.failure == nil, "\(pair.server.failure as Any)")
        #expect(HelloRecord(pair.server.takeOutput()).chosenCompression == 0)
      } else {
        #expect(pair.server.failure?.code == .protocolViolated)
      }
    }
  }

  @Test("RFC 7301 http/1.1 is offered by clients, chosen by servers, and known to both")
  func applicationProtocol() throws {
    for version in [TLSProtocols.Version.tls12, .tls13] {
      let pair = try pair(version)
      pair.run()
      #expect(pair.client.isDone && pair.server.isDone)
      #expect(pair.client.engine.applicationProtocol == Array("http/1.1".utf8))
      #expect(pair.server.engine.applicationProtocol == Array("http/1.1".utf8))
    }
  }

  @Test(
    "RFC 7301 §3.1 a server that chooses what was not offered is refused, before a byte is sent")
  func otherApplicationProtocol() throws {
    let pair = try pair(.tls12)
    pair.client.feed([])
    pair.server.feed(pair.client.takeOutput())
    var flight = pair.server.takeOutput()
    let chosen = try #require(flight.firstRange(of: Array("http/1.1".utf8)))
    flight.replaceSubrange(chosen, with: Array("http/1.0".utf8))
    pair.client.feed(flight)
    let failure = try #require(pair.client.failure)
    #expect(failure.code == .protocolViolated, "\(failure)")
    #expect(failure.reasons == ["bad extension"])
    #expect(!pair.client.isDone)
  }
}
