import Testing

@testable import GrenacheFraming

private func answer(_ offer: String, _ options: WebSocketDeflate) -> String? {
  guard let extensions = WebSocketExtension.parse(offer) else { return "malformed" }
  return WebSocketDeflateAgreement.answer(to: extensions, with: options)?.value
}

private let keeping = WebSocketDeflate(keepsContext: true)

@Suite("RFC 7692 §5, §7.1 Negotiating permessage-deflate")
struct DeflateNegotiationTests {
  @Test(
    "what a server that keeps its context answers",
    arguments: [
      ("permessage-deflate", "permessage-deflate"),
      ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
      (
        "permessage-deflate; client_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=10"
      ),
      (
        "permessage-deflate; server_max_window_bits=\"8\"",
        "permessage-deflate; server_max_window_bits=8"
      ),
      (
        "Permessage-Deflate;server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover"
      ),
      (
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=15",
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=15"
      ),
      ("x-webkit-deflate-frame, permessage-deflate", "permessage-deflate"),
      (
        "permessage-deflate; nobody_knows, permessage-deflate; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9"
      ),
      ("permessage-deflate; server_max_window_bits=7, permessage-deflate", "permessage-deflate"),
    ])
  func answers(_ offer: String, _ expected: String) {
    #expect(answer(offer, keeping) == expected)
  }

  @Test(
    "what it passes over",
    arguments: [
      "x-webkit-deflate-frame", "permessage-bzip2", "permessage-deflate; unknown",
      "permessage-deflate; unknown=1", "permessage-deflate; server_no_context_takeover=1",
      "permessage-deflate; client_no_context_takeover=true",
      "permessage-deflate; server_max_window_bits", "permessage-deflate; server_max_window_bits=7",
      "permessage-deflate; server_max_window_bits=16",
      "permessage-deflate; server_max_window_bits=08",
      "permessage-deflate; server_max_window_bits=a",
      "permessage-deflate; client_max_window_bits=7",
      "permessage-deflate; client_max_window_bits=16",
      "permessage-deflate; client_max_window_bits=010",
      "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
      "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
      "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
      "permessage-deflate; client_max_window_bits=99999999999999999999",
    ])
  func declined(_ offer: String) {
    #expect(answer(offer, keeping) == nil)
  }

  @Test(
    "what is no list of extensions fails the handshake, RFC 6455 §9.1",
    arguments: [
      "", ",", "permessage-deflate,", ";a", "permessage-deflate;", "permessage-deflate; =1",
      "permessage-deflate; a=", "permessage-deflate; a=\"", "permessage-deflate; a=\"b",
      "permessage-deflate; a=\"b c\"", "permessage-deflate; a=b c", "permessage deflate", "a@b",
      "a; b=\"\"",
    ])
  func malformed(_ offer: String) {
    #expect(answer(offer, keeping) == "malformed")
    #expect(WebSocketHandshakeTests.evaluate([("Sec-WebSocket-Extensions", offer)]) == 400)
  }

  @Test("a server without context asks for it on both sides, and keeps within its window")
  func withoutContext() {
    let none = WebSocketDeflate()
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    #expect(answer("permessage-deflate", none) == both)
    let small = WebSocketDeflate(keepsContext: true, windowBitsMax: 10)
    #expect(answer("permessage-deflate", small) == "permessage-deflate; server_max_window_bits=10")
    #expect(
      answer("permessage-deflate; client_max_window_bits", small)
        == "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10")
    #expect(
      answer("permessage-deflate; client_max_window_bits=9; server_max_window_bits=12", small)
        == "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9")
  }

  @Test(
    "what a client offers",
    arguments: [
      (WebSocketDeflate(keepsContext: true), "permessage-deflate; client_max_window_bits"),
      (
        WebSocketDeflate(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
          + "client_max_window_bits"
      ),
      (
        WebSocketDeflate(keepsContext: true, windowBitsMax: 9),
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9"
      ),
    ])
  func offer(_ options: WebSocketDeflate, _ expected: String) {
    #expect(WebSocketDeflateAgreement.offer(options) == expected)
  }

  private func agreement(
    _ answer: String, _ options: WebSocketDeflate = keeping
  ) -> WebSocketDeflateAgreement? {
    WebSocketExtension.parse(answer).flatMap {
      WebSocketDeflateAgreement(answer: $0[0], to: options)
    }
  }

  @Test(
    "answers that a client takes",
    arguments: [
      ("permessage-deflate", [0, 0, 15, 15]),
      ("permessage-deflate; server_no_context_takeover", [1, 0, 15, 15]),
      ("permessage-deflate; client_no_context_takeover", [0, 1, 15, 15]),
      ("permessage-deflate; server_max_window_bits=9", [0, 0, 9, 15]),
      ("permessage-deflate; client_max_window_bits=8", [0, 0, 15, 8]),
    ] as [(String, [Int])])
  func accepted(_ answer: String, _ expected: [Int]) {
    let agreed = agreement(answer)
    #expect(
      agreed.map {
        [
          $0.serverNoContextTakeover ? 1 : 0, $0.clientNoContextTakeover ? 1 : 0,
          $0.serverMaxWindowBits, $0.clientMaxWindowBits,
        ]
      } == expected)
  }

  @Test(
    "answers that fail the connection",
    arguments: [
      "permessage-bzip2", "permessage-deflate; unknown",
      "permessage-deflate; client_max_window_bits",
      "permessage-deflate; server_max_window_bits", "permessage-deflate; server_max_window_bits=16",
      "permessage-deflate; client_max_window_bits=16",
      "permessage-deflate; server_no_context_takeover=1",
      "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    ])
  func refused(_ answer: String) {
    #expect(agreement(answer) == nil)
  }

  @Test("a client's wishes must have been granted")
  func wishes() {
    let small = WebSocketDeflate(keepsContext: true, windowBitsMax: 9)
    #expect(agreement("permessage-deflate", small) == nil)
    #expect(agreement("permessage-deflate; server_max_window_bits=10", small) == nil)
    #expect(agreement("permessage-deflate; server_max_window_bits=9", small) != nil)
    #expect(agreement("permessage-deflate", WebSocketDeflate()) == nil)
    let granted = agreement("permessage-deflate; server_no_context_takeover", WebSocketDeflate())
    #expect(granted?.clientNoContextTakeover == true)
  }

  @Test("what one end answers, the other end takes, and both mean the same", arguments: 8...15)
  func bothEnds(_ bits: Int) {
    for other in 8...15 {
      for (clientKeeps, serverKeeps) in [(true, true), (true, false), (false, true)] {
        let client = WebSocketDeflate(keepsContext: clientKeeps, windowBitsMax: bits)
        let server = WebSocketDeflate(keepsContext: serverKeeps, windowBitsMax: other)
        let extensions = WebSocketExtension.parse(WebSocketDeflateAgreement.offer(client)) ?? []
        let answer = WebSocketDeflateAgreement.answer(to: extensions, with: server)
        #expect(answer != nil)
        #expect(agreement(answer?.value ?? "x", client) == answer?.agreement)
      }
    }
  }
}

@Suite("RFC 6455 §1.9, §4 Subprotocols")
struct SubprotocolTests {
  private func choose(_ offered: String?, from names: [String]) -> String {
    var fields: HTTPFields = [
      ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
      ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    if let offered { fields.append("Sec-WebSocket-Protocol", offered) }
    let options = WebSocketOptions(subprotocols: names)
    switch WebSocketServerHandshake.evaluate(
      method: .get, fields: fields, options: options, sha1: WebSocketHandshakeTests.sha1)
    {
    case .accept(let fields, let agreement):
      #expect(fields["Sec-WebSocket-Protocol"] == agreement.subprotocol)
      return agreement.subprotocol ?? "none"
    case .reject(let status, _): return "\(status.code)"
    }
  }

  @Test("the server's best that the client offers, or none")
  func choice() {
    #expect(choose(nil, from: ["a"]) == "none")
    #expect(choose("a, b", from: ["b", "a"]) == "b")
    #expect(choose("a,b", from: ["c", "a"]) == "a")
    #expect(choose("a", from: ["A"]) == "none")
    #expect(choose("a", from: []) == "none")
  }

  @Test(
    "what is no list of names fails", arguments: ["", ",", "a,", "a b", "a,,b", "a, a", "\"a\""])
  func malformed(_ offered: String) {
    #expect(choose(offered, from: ["a"]) == "400")
  }

  @Test("a client takes what it offered, or none")
  func client() throws {
    let options = WebSocketOptions(subprotocols: ["a", "b"])
    let handshake = WebSocketClientHandshake(
      nonce: Array("the sample nonce".utf8), options: options)
    #expect(handshake.fields["Sec-WebSocket-Protocol"] == "a, b")
    func chosen(_ name: String?) throws -> String? {
      var fields: HTTPFields = [
        ("Upgrade", "websocket"), ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
      ]
      if let name { fields.append("Sec-WebSocket-Protocol", name) }
      return try handshake.validate(
        status: .switchingProtocols, fields: fields, sha1: WebSocketHandshakeTests.sha1
      ).subprotocol
    }
    #expect(try chosen("b") == "b")
    #expect(try chosen(nil) == nil)
    for name in ["c", "a, b", ""] {
      #expect(throws: WebSocketClientHandshake.Refusal.self) { try chosen(name) }
    }
  }
}
