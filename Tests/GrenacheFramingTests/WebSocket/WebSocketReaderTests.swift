import ConformanceCases
import TestSupport
import Testing

@testable import GrenacheFraming

private let roles = [WebSocketRole.server, .client]

private func text(_ string: String) -> [UInt8] { Array(string.utf8) }

@Suite("RFC 6455 §5 Data framing")
struct WebSocketFramingTests {
  @Test("the examples of §5.7")
  func examples() {
    let hello = WebSocketEvent.message(.text, text("Hello"))
    #expect(readFrames([0x81, 5] + text("Hello"), role: .client) == [hello])
    let masked: [UInt8] = [
      0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ]
    #expect(readFrames(masked, role: .server) == [hello])
    let fragments: [UInt8] = [0x01, 3] + text("Hel") + [0x80, 2] + text("lo")
    #expect(readFrames(fragments, role: .client) == [hello])
    #expect(readFrames([0x89, 5] + text("Hello"), role: .client) == [.ping(text("Hello"))])
    let long = [UInt8](repeating: 7, count: 256)
    let binary = WebSocketEvent.message(.binary, long)
    #expect(readFrames([0x82, 0x7e, 1, 0] + long, role: .client) == [binary])
  }

  @Test("clients mask and servers do not, §5.1", arguments: roles)
  func masking(_ role: WebSocketRole) {
    let wrong: WebSocketRole = role == .server ? .client : .server
    #expect(readFrames(frame(.text, text("a"), to: wrong), role: role) == [.error(1002)])
    #expect(readFrames(frame(.ping, [], to: wrong), role: role) == [.error(1002)])
  }

  @Test(
    "what is refused from the head alone, §5.2 and §5.5",
    arguments: [
      ([0xc1, 0], 1002), ([0xa1, 0], 1002), ([0x91, 0], 1002), ([0x83, 0], 1002),
      ([0x8b, 0], 1002), ([0x8f, 0], 1002), ([0x09, 0], 1002), ([0x89, 126, 0, 126], 1002),
      ([0x82, 126, 0, 125], 1002), ([0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
      ([0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002), ([0x80, 0], 1002), ([0x00, 0], 1002),
      ([0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1009),
      ([0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1], 1009), ([0x01, 0, 0x01, 0], 1002),
      ([0x02, 0, 0x81, 0], 1002),
    ] as [([UInt8], Int)])
  func refused(_ input: [UInt8], _ code: Int) {
    #expect(readFrames(input, role: .client) == [.error(UInt16(code))])
  }

  @Test("control frames may come between fragments, §5.4", arguments: roles)
  func interleaved(_ role: WebSocketRole) {
    let input =
      frame(.text, text("a"), to: role, isFinal: false) + frame(.ping, text("p"), to: role)
      + frame(.continuation, text("b"), to: role, isFinal: false)
      + frame(.pong, [], to: role) + frame(.continuation, text("c"), to: role)
      + frame(.binary, [1], to: role)
    #expect(
      readFrames(input, role: role) == [
        .ping(text("p")), .pong([]), .message(.text, text("abc")), .message(.binary, [1]),
      ])
  }

  @Test(
    "all lengths around the borders of the encodings, written and read back",
    arguments: [0, 1, 125, 126, 127, 65_535, 65_536, 70_001])
  func lengths(_ count: Int) {
    let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    for role in roles {
      let input = frame(.binary, payload, to: role)
      #expect(readFrames(input, role: role) == [.message(.binary, payload)])
      let cuts = stride(from: 1000, to: input.count, by: 1000).map { $0 }
      #expect(readFrames(input, role: role, cuts: cuts) == [.message(.binary, payload)])
    }
  }
}

@Suite("P8, P9: WebSocket messages are bounded before they are buffered")
struct WebSocketLimitTests {
  @Test("P9 a message at the limit and one past it, whole and in parts", arguments: roles)
  func bytes(_ role: WebSocketRole) {
    let limits = WebSocketLimits(messageBytesMax: 100)
    func read(_ input: [UInt8]) -> [WebSocketEvent] {
      readFrames(input, role: role, limits: limits)
    }
    let most = [UInt8](repeating: 1, count: 100)
    #expect(read(frame(.binary, most, to: role)) == [.message(.binary, most)])
    // The head alone is enough to refuse it: no byte of the payload has come.
    let over = frame(.binary, most + [1], to: role)
    #expect(read(Array(over.prefix(role == .server ? 6 : 2))) == [.error(1009)])
    let parts = frame(.binary, Array(most.prefix(60)), to: role, isFinal: false)
    #expect(
      read(parts + frame(.continuation, Array(most.prefix(40)), to: role))
        == [.message(.binary, most)])
    #expect(
      read(parts + frame(.continuation, Array(most.prefix(41)), to: role)) == [.error(1009)])
  }

  @Test("P8 fragments are counted")
  func fragments() {
    let limits = WebSocketLimits(fragmentsMax: 3)
    func read(_ count: Int) -> [WebSocketEvent] {
      var input = frame(.binary, [1], to: .client, isFinal: false)
      for number in 1..<count {
        input += frame(.continuation, [1], to: .client, isFinal: number == count - 1)
      }
      return readFrames(input, role: .client, limits: limits)
    }
    #expect(read(3) == [.message(.binary, [1, 1, 1])])
    #expect(read(4) == [.error(1008)])
  }

  @Test("P10 control frames are counted in a window of time")
  func control() throws {
    var budget = ControlFrameBudget(limits: WebSocketLimits(controlFramesMax: 3))
    for _ in 0..<3 { try budget.spend(at: .seconds(1)) }
    #expect(throws: WebSocketError.self) { try budget.spend(at: .seconds(9)) }
    try budget.spend(at: .seconds(20))
  }

  @Test("P10 whatever the window begins with: no ten seconds hold more than the limit")
  func controlWindow() throws {
    var budget = ControlFrameBudget(limits: WebSocketLimits(controlFramesMax: 3))
    try budget.spend(at: .seconds(1))
    for _ in 0..<2 { try budget.spend(at: .seconds(10)) }
    try budget.spend(at: .seconds(11))
    #expect(throws: WebSocketError.self) { try budget.spend(at: .seconds(12)) }
    for _ in 0..<2 { try budget.spend(at: .seconds(20)) }
    #expect(throws: WebSocketError.self) { try budget.spend(at: .seconds(20)) }
  }
}

@Suite("RFC 6455 §8.1 UTF-8")
struct WebSocketUTF8Tests {
  @Test(
    "text that is not UTF-8 closes with 1007",
    arguments: [
      [0xff], [0xc0, 0x80], [0xc1, 0xbf], [0xed, 0xa0, 0x80], [0xe0, 0x80, 0x80],
      [0xf0, 0x80, 0x80, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80], [0x80], [0xc3],
      [0xe2, 0x82], [0xf0, 0x9f, 0x98], [0x61, 0xc3, 0x61],
    ] as [[UInt8]])
  func invalid(_ bytes: [UInt8]) {
    #expect(readFrames(frame(.text, bytes, to: .server), role: .server) == [.error(1007)])
    let binary = readFrames(frame(.binary, bytes, to: .server), role: .server)
    #expect(binary == [.message(.binary, bytes)])
  }

  @Test("a bad byte is found before its fragment is complete")
  func failFast() {
    var input = frame(.text, text("ab") + [0xff] + text("cd"), to: .server, isFinal: false)
    input.removeLast(2)
    #expect(readFrames(input, role: .server) == [.error(1007)])
  }

  @Test("the validator says what the standard library says, however the text is cut")
  func differential() {
    var generator = SeededGenerator(seed: 1)
    let samples = ["κόσμε", "a😀b\u{10ffff}", "\u{7ff}\u{800}\u{ffff}\u{10000}", "ascii only here"]
    for round in 0..<20_000 {
      var bytes = Array((samples.randomElement(using: &generator) ?? "").utf8)
      if round % 3 > 0 {
        let index = Int.random(in: 0..<bytes.count, using: &generator)
        bytes[index] = UInt8.random(in: 0...255, using: &generator)
      }
      let cut = Int.random(in: 0...bytes.count, using: &generator)
      var validator = UTF8Validator()
      let isValid =
        validator.append(bytes.span, 0..<cut) && validator.append(bytes.span, cut..<bytes.count)
        && validator.isComplete
      #expect(isValid == (String(validating: bytes, as: UTF8.self) != nil), "round \(round)")
    }
  }
}

@Suite("RFC 6455 §7 Closing")
struct WebSocketClosingTests {
  @Test(
    "codes that may be sent, §7.4",
    arguments: [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 4999])
  func codes(_ code: Int) {
    let payload = [UInt8(code >> 8), UInt8(code & 255)] + text("bye")
    let expected = [WebSocketEvent.close(UInt16(code), "bye")]
    #expect(readFrames(frame(.close, payload, to: .server), role: .server) == expected)
  }

  @Test(
    "codes and payloads that may not",
    arguments: [
      ([0x03], 1002), ([0x03, 0xe7], 1002), ([0x03, 0xec], 1002), ([0x03, 0xed], 1002),
      ([0x03, 0xee], 1002), ([0x03, 0xf7], 1002), ([0x07, 0xd0], 1002), ([0x13, 0x88], 1002),
      ([0, 0], 1002), ([0xff, 0xff], 1002), ([0x03, 0xe8, 0xff], 1007),
    ] as [([UInt8], Int)])
  func refused(_ payload: [UInt8], _ code: Int) {
    let events = readFrames(frame(.close, payload, to: .server), role: .server)
    #expect(events == [.error(UInt16(code))])
  }

  @Test("nothing is read behind a close frame")
  func nothingAfter() {
    let input = frame(.close, [], to: .server) + frame(.text, text("a"), to: .server)
    #expect(readFrames(input, role: .server) == [.close(nil, "")])
  }

  @Test("the closing handshake, from both sides")
  func machine() {
    var closer = WebSocketCloseMachine()
    #expect(closer.closeRequested(.normal) == .sendClose(.normal))
    #expect(closer.closeRequested(.normal) == .none)
    #expect(closer.closeReceived(.normal) == .closeTransport)
    #expect(closer.isDone)
    var closed = WebSocketCloseMachine()
    #expect(closed.closeReceived(.goingAway) == .sendCloseAndEnd(.goingAway))
    #expect(closed.closeReceived(.goingAway) == .none)
    #expect(closed.violationFound(.protocolError) == .none)
    var violated = WebSocketCloseMachine()
    #expect(violated.violationFound(.protocolError) == .sendCloseAndEnd(.protocolError))
    #expect(!violated.isOpen)
  }

  @Test("a long reason is cut between characters")
  func reason() {
    var output: [UInt8] = []
    let reason = String(repeating: "é", count: 100)
    output.appendWebSocketClose(.normal, reason: reason, maskingKey: nil)
    let expected = WebSocketEvent.close(1000, String(repeating: "é", count: 61))
    #expect(readFrames(output, role: .client) == [expected])
  }
}

@Suite("WebSocket: any split of the input gives the same messages")
struct WebSocketSplitTests {
  static func vectors(_ role: WebSocketRole) -> [[UInt8]] {
    [
      frame(.text, text("Hello κόσμε 😀"), to: role) + frame(.binary, [1, 2, 3], to: role),
      frame(.text, text("κό"), to: role, isFinal: false) + frame(.ping, text("x"), to: role)
        + frame(.continuation, text("σμε"), to: role) + frame(.close, [3, 232], to: role),
      frame(.binary, [UInt8](repeating: 9, count: 300), to: role) + frame(.text, [], to: role),
      frame(.text, [], to: role, isFinal: false) + frame(.continuation, [], to: role),
      frame(.text, text("ok"), to: role) + [0xff, 0xff],
    ]
  }

  @Test("whole, byte by byte, and at random places", arguments: roles)
  func splits(_ role: WebSocketRole) {
    for (number, input) in Self.vectors(role).enumerated() {
      let whole = readFrames(input, role: role)
      #expect(!whole.isEmpty)
      #expect(readFrames(input, role: role, cuts: Array(1..<input.count)) == whole)
      for seed in 0..<100 {
        var generator = SeededGenerator(seed: UInt64(seed * 10 + number))
        let cuts = (0..<4).map { _ in Int.random(in: 0...input.count, using: &generator) }
        #expect(readFrames(input, role: role, cuts: cuts) == whole, "seed \(seed) of \(number)")
      }
    }
  }

  @Test("mutated input: no trap, always an end, and no split matters", arguments: roles)
  func mutations(_ role: WebSocketRole) {
    var generator = SeededGenerator(seed: 11)
    let vectors = Self.vectors(role)
    let limits = WebSocketLimits(messageBytesMax: 400, fragmentsMax: 4)
    for round in 0..<20_000 {
      var input = vectors.randomElement(using: &generator) ?? []
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let index = Int.random(in: 0..<input.count, using: &generator)
        input[index] = UInt8.random(in: 0...255, using: &generator)
      }
      let cut = Int.random(in: 0...input.count, using: &generator)
      let whole = readFrames(input, role: role, limits: limits)
      let split = readFrames(input, role: role, cuts: [cut], limits: limits)
      #expect(whole == split, "round \(round)")
    }
  }
}

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
