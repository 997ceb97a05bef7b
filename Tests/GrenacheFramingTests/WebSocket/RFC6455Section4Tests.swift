import Testing

@testable import GrenacheFraming

@Suite("RFC 6455 §4 Opening handshake")
struct WebSocketHandshakeTests {
  /// SHA-1 of the one input that the example needs.
  static func sha1(_ input: [UInt8]) -> [UInt8] {
    let expected = "dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    guard input == Array(expected.utf8) else { return [UInt8](repeating: 0, count: 20) }
    return [
      0xb3, 0x7a, 0x4f, 0x2c, 0xc0, 0x62, 0x4f, 0x16, 0x90, 0xf6, 0x46, 0x06, 0xcf, 0x38, 0x59,
      0x45, 0xb2, 0xbe, 0xc4, 0xea,
    ]
  }

  static func evaluate(_ changes: [(String, String?)], _ method: HTTPMethod = .get) -> Int {
    var values = [
      "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    ]
    for (name, value) in changes { values[name] = value }
    var fields = HTTPFields()
    for (name, value) in values { fields.append(name, value) }
    switch WebSocketServerHandshake.evaluate(method: method, fields: fields, sha1: Self.sha1) {
    case .accept(let fields, _):
      return fields["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ? 101 : 0
    case .reject(let status, _): return status.code
    }
  }

  @Test("the example of §1.3, and what is refused")
  func server() {
    #expect(Self.evaluate([]) == 101)
    #expect(Self.evaluate([("Sec-WebSocket-Version", "8")]) == 101)
    #expect(Self.evaluate([("Sec-WebSocket-Version", "12")]) == 426)
    #expect(Self.evaluate([("Sec-WebSocket-Version", nil)]) == 426)
    for key in ["", "abc", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZR==", "AAAA"] {
      #expect(Self.evaluate([("Sec-WebSocket-Key", key)]) == 400)
    }
    #expect(Self.evaluate([("Sec-WebSocket-Key", nil)]) == 400)
    #expect(Self.evaluate([], .post) == 400)
  }

  @Test("a client takes no other answer than the right one")
  func client() throws {
    let handshake = WebSocketClientHandshake(nonce: Array("the sample nonce".utf8))
    #expect(handshake.fields["Sec-WebSocket-Key"] == "dGhlIHNhbXBsZSBub25jZQ==")
    let good: HTTPFields = [
      ("upgrade", "WebSocket"), ("connection", "x, upgrade"),
      ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]
    _ = try handshake.validate(status: .switchingProtocols, fields: good, sha1: Self.sha1)
    var extended = good
    extended.append("Sec-WebSocket-Extensions", "permessage-deflate")
    var wrong = HTTPFields()
    for line in good.lines { wrong.append(line.name, line.value.replacing("s3p", with: "s3q")) }
    for (status, fields) in [
      (HTTPStatus.ok, good), (.switchingProtocols, []), (.switchingProtocols, extended),
      (.switchingProtocols, wrong),
    ] {
      #expect(throws: WebSocketClientHandshake.Refusal.self) {
        _ = try handshake.validate(status: status, fields: fields, sha1: Self.sha1)
      }
    }
  }
}
