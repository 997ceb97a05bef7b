import TestSupport
import Testing

@testable import GrenacheFraming

/// The cases of a public conformance suite, by its numbers, as tables: what a peer sends in frames, and
/// what the reader makes of it. Every case runs as server and as client, whole, byte by byte, and cut in
/// two at every place (at some, for the long ones).
private struct ConformanceCase: CustomTestStringConvertible {
  struct Frame {
    var first: UInt8
    var payload: [UInt8]
  }
  var number: String
  var frames: [Frame]
  var expected: [WebSocketEvent]
  var testDescription: String { number }

  init(_ number: String, _ frames: [Frame], _ expected: [WebSocketEvent]) {
    self.number = number
    self.frames = frames
    self.expected = expected
  }

  func bytes(to role: WebSocketRole) -> [UInt8] {
    frames.flatMap { frame in
      var output: [UInt8] = []
      output.appendWebSocketFrame(
        .binary, frame.payload.span, maskingKey: role == .server ? 0x0102_0384 : nil)
      output[0] = frame.first
      return output
    }
  }

  func check() {
    for role in [WebSocketRole.server, .client] {
      let input = bytes(to: role)
      let limits = WebSocketLimits(messageBytesMax: 1 << 24, fragmentsMax: .max)
      func read(_ cuts: [Int]) -> [WebSocketEvent] {
        readFrames(input, role: role, cuts: cuts, limits: limits)
      }
      #expect(read([]) == expected, "\(number), \(role)")
      let step = max(1, input.count / 400)
      let cuts = Array(stride(from: 1, to: input.count, by: step))
      #expect(read(cuts) == expected, "\(number), \(role), in pieces of \(step)")
      for cut in cuts {
        #expect(read([cut]) == expected, "\(number), \(role), cut at \(cut)")
      }
    }
  }
}

private typealias Frame = ConformanceCase.Frame

private func text(_ payload: [UInt8], _ first: UInt8 = 0x81) -> Frame {
  Frame(first: first, payload: payload)
}
private func text(_ payload: String, _ first: UInt8 = 0x81) -> Frame {
  text(Array(payload.utf8), first)
}
private func message(_ payload: String) -> WebSocketEvent { .message(.text, Array(payload.utf8)) }
private let goodbye = Frame(first: 0x88, payload: [3, 232])
private let closed = WebSocketEvent.close(1000, "")

@Suite("P16 Conformance: framing, pings, reserved bits and opcodes (cases 1 to 4)")
struct ConformanceFramingTests {
  @Test(
    "1.1, 1.2: messages of every length class",
    arguments: [0, 1, 125, 126, 127, 128, 65_535, 65_536])
  func lengths(_ count: Int) {
    let payload = [UInt8](repeating: 0x2a, count: count)
    ConformanceCase(
      "1.1 of \(count)", [text(payload), goodbye], [.message(.text, payload), closed]
    ).check()
    let bytes = [UInt8](repeating: 0xfe, count: count)
    ConformanceCase(
      "1.2 of \(count)", [Frame(first: 0x82, payload: bytes), goodbye],
      [.message(.binary, bytes), closed]
    ).check()
  }

  private static func ping(_ count: Int) -> Frame {
    Frame(first: 0x89, payload: [UInt8](repeating: 0xfe, count: count))
  }
  private static func pong(_ count: Int) -> Frame {
    Frame(first: 0x8a, payload: [UInt8](repeating: 0xfe, count: count))
  }
  private static let bytes125 = [UInt8](repeating: 0xfe, count: 125)

  @Test(
    "2: pings and pongs",
    arguments: [
      ConformanceCase("2.1", [ping(0), goodbye], [.ping([]), closed]),
      ConformanceCase("2.3", [ping(1), goodbye], [.ping([0xfe]), closed]),
      ConformanceCase("2.4", [ping(125), goodbye], [.ping(bytes125), closed]),
      ConformanceCase("2.5", [ping(126)], [.error(1002)]),
      ConformanceCase("2.7", [pong(0), goodbye], [.pong([]), closed]),
      ConformanceCase("2.8", [pong(125), goodbye], [.pong(bytes125), closed]),
      ConformanceCase("2.9", [pong(1), ping(0), goodbye], [.pong([0xfe]), .ping([]), closed]),
      ConformanceCase(
        "2.10", [Frame](repeating: ping(2), count: 10) + [goodbye],
        [WebSocketEvent](repeating: .ping([0xfe, 0xfe]), count: 10) + [closed]),
    ])
  fileprivate func pings(_ one: ConformanceCase) { one.check() }

  @Test("3: reserved bits without an extension", arguments: 1...7)
  func reservedBits(_ bits: Int) {
    for opcode in [UInt8(0x1), 0x2, 0x8, 0x9, 0xa] {
      let frame = Frame(first: 0x80 | UInt8(bits << 4) | opcode, payload: [0x2a])
      ConformanceCase("3.\(bits)", [text("a"), frame, goodbye], [message("a"), .error(1002)])
        .check()
    }
  }

  @Test("4: reserved opcodes", arguments: [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] as [UInt8])
  func reservedOpcodes(_ opcode: UInt8) {
    for payload in [[], Array("reserved".utf8)] {
      let frame = Frame(first: 0x80 | opcode, payload: payload)
      ConformanceCase("4.\(opcode)", [text("a"), frame, goodbye], [message("a"), .error(1002)])
        .check()
    }
  }
}

@Suite("P16 Conformance: fragmentation (cases 5)")
struct ConformanceFragmentTests {
  private static let ping = Frame(first: 0x89, payload: [7])
  private static let first = text("frag", 0x01)
  private static let middle = text("ment", 0x00)
  private static let last = text("ed", 0x80)

  @Test(
    "5: fragments in order, out of order, and with control frames between them",
    arguments: [
      ConformanceCase("5.1", [Frame(first: 0x09, payload: [7]), text("", 0x80)], [.error(1002)]),
      ConformanceCase("5.2", [Frame(first: 0x0a, payload: [7]), text("", 0x80)], [.error(1002)]),
      ConformanceCase("5.3", [first, last], [message("fraged")]),
      ConformanceCase("5.6", [first, ping, last], [.ping([7]), message("fraged")]),
      ConformanceCase("5.9", [text("a", 0x80), text("b")], [.error(1002)]),
      ConformanceCase("5.12", [text("a", 0x00), text("b")], [.error(1002)]),
      ConformanceCase(
        "5.15", [first, last, text("x", 0x00), last], [message("fraged"), .error(1002)]),
      ConformanceCase("5.18", [first, text("second")], [.error(1002)]),
      ConformanceCase(
        "5.19", [first, middle, ping, middle, middle, ping, last],
        [.ping([7]), .ping([7]), message("fragmentmentmented")]),
      ConformanceCase(
        "5.20", [first, ping, last, text("a"), ping, goodbye],
        [.ping([7]), message("fraged"), message("a"), .ping([7]), closed]),
      ConformanceCase("binary in text", [first, text("x", 0x02)], [.error(1002)]),
      ConformanceCase(
        "empty parts", [text("", 0x01), text("", 0x00), text("", 0x80)], [message("")]),
      ConformanceCase("close between", [first, goodbye, last], [closed]),
    ])
  fileprivate func fragments(_ one: ConformanceCase) { one.check() }

  @Test("10.1: 64 KiB in frames of 1,300 bytes")
  func automatic() {
    let payload = [UInt8](repeating: 0x2a, count: 65_536)
    var frames: [Frame] = []
    for start in stride(from: 0, to: payload.count, by: 1_300) {
      let part = Array(payload[start..<min(start + 1_300, payload.count)])
      let isLast = start + 1_300 >= payload.count
      frames.append(text(part, (isLast ? 0x80 : 0) | (start == 0 ? 0x01 : 0)))
    }
    ConformanceCase("10.1", frames, [.message(.text, payload)]).check()
  }

  @Test("P8 16 MiB in frames of 1 KiB take linear time")
  func linear() {
    let part = [UInt8](repeating: 7, count: 1 << 10)
    var input: [UInt8] = []
    for number in 0..<(16 << 10) {
      input.appendWebSocketFrame(
        number == 0 ? .binary : .continuation, part.span, maskingKey: nil,
        isFinal: number == (16 << 10) - 1)
    }
    var reader = WebSocketReader(
      role: .client, limits: WebSocketLimits(messageBytesMax: 16 << 20, fragmentsMax: .max))
    var offset = 0
    var span = input.mutableSpan
    let start = ContinuousClock.now
    #expect((try? reader.next(&span, from: &offset)) == .assembledMessage(.binary))
    // 100 ms is what an optimised build promises; quadratic time would be minutes.
    #expect(ContinuousClock.now - start < .seconds(5))
    #expect(reader.takeMessage().count == 16 << 20)
  }
}

@Suite("P16 Conformance: UTF-8 (cases 6)")
struct ConformanceUTF8Tests {
  private static let valid: [[UInt8]] = [
    [], Array("Hello-µ@ßöäüàá-UTF-8!!".utf8), Array("κόσμε".utf8), [0x00],
    [0xc2, 0x80], [0xe0, 0xa0, 0x80], [0xf0, 0x90, 0x80, 0x80], [0x7f], [0xdf, 0xbf],
    [0xef, 0xbf, 0xbf], [0xf4, 0x8f, 0xbf, 0xbf], [0xed, 0x9f, 0xbf], [0xee, 0x80, 0x80],
    [0xef, 0xbf, 0xbd], [0xef, 0xbf, 0xbe], [0xf0, 0x9f, 0xbf, 0xbf], [0xf3, 0xbf, 0xbf, 0xbe],
    [0xef, 0xb7, 0x90], [0xe2, 0x80, 0xa8, 0xf0, 0x9f, 0x98, 0x80, 0x41],
  ]
  private static let invalid: [[UInt8]] = [
    [0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xcf, 0x83, 0xce, 0xbc, 0xce, 0xb5, 0xed, 0xa0, 0x80, 0x65],
    // Lone continuations, lone beginnings, and beginnings that are cut.
    [0x80], [0xbf], [0x80, 0xbf, 0x80], [0xc0], [0xdf, 0x20], [0xe0, 0x20, 0x20],
    [0xef, 0xbf, 0x20],
    [0xf0, 0x20], [0xf4, 0x8f, 0xbf, 0x20], [0xf8], [0xfc], [0xfe], [0xff],
    [0xfe, 0xfe, 0xff, 0xff],
    // Five and six bytes.
    [0xf8, 0x88, 0x80, 0x80, 0x80], [0xfb, 0xbf, 0xbf, 0xbf, 0xbf],
    [0xfc, 0x84, 0x80, 0x80, 0x80, 0x80], [0xfd, 0xbf, 0xbf, 0xbf, 0xbf, 0xbf],
    // Longer than needed.
    [0xc0, 0xaf], [0xe0, 0x80, 0xaf], [0xf0, 0x80, 0x80, 0xaf], [0xc1, 0xbf], [0xe0, 0x9f, 0xbf],
    [0xf0, 0x8f, 0xbf, 0xbf], [0xc0, 0x80], [0xe0, 0x80, 0x80], [0xf0, 0x80, 0x80, 0x80],
    // Surrogates, alone and in pairs; beyond Unicode.
    [0xed, 0xa0, 0x80], [0xed, 0xad, 0xbf], [0xed, 0xae, 0x80], [0xed, 0xbf, 0xbf],
    [0xed, 0xa0, 0x80, 0xed, 0xb0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80],
    [0xf7, 0xbf, 0xbf, 0xbf],
  ]

  @Test("6.2, 6.5 to 6.23: what is UTF-8 and what is not, within ASCII of any length")
  func sequences() {
    for count in [0, 1, 3, 7, 8, 63, 64, 65] {
      let ascii = [UInt8](repeating: 0x61, count: count)
      for sequence in Self.valid {
        let payload = ascii + sequence + ascii
        ConformanceCase("valid", [text(payload)], [.message(.text, payload)]).check()
      }
      for sequence in Self.invalid {
        ConformanceCase("invalid", [text(ascii + sequence + ascii)], [.error(1007)]).check()
      }
    }
  }

  @Test("6.1, 6.2: fragments that cut a character")
  func fragments() {
    for sequence in Self.valid where sequence.count > 1 {
      for cut in 1..<sequence.count {
        let frames = [
          text(Array(sequence[..<cut]), 0x01), text([], 0x00), text(Array(sequence[cut...]), 0x80),
        ]
        ConformanceCase("cut at \(cut)", frames, [.message(.text, sequence)]).check()
      }
    }
  }

  @Test("6.3, 6.4: what can never become UTF-8 is refused before its message is whole")
  func failFast() {
    for sequence in Self.invalid.filter({ String(validating: $0 + [0x80], as: UTF8.self) == nil }) {
      let frames = [text("κόσμε", 0x01), text(sequence + [0x20], 0x00)]
      ConformanceCase("unfinished", frames, [.error(1007)]).check()
    }
  }

  @Test("a character that is not finished is refused at the end of the message only")
  func unfinished() {
    ConformanceCase("open", [text([0x61, 0xe2, 0x82], 0x01)], []).check()
    ConformanceCase("ended", [text([0x61, 0xe2, 0x82], 0x01), text("", 0x80)], [.error(1007)])
      .check()
    ConformanceCase("whole", [text([0x61, 0xe2, 0x82])], [.error(1007)]).check()
  }
}

@Suite("P16 Conformance: closing (cases 7)")
struct ConformanceCloseTests {
  private static func close(_ code: Int, _ reason: [UInt8] = []) -> Frame {
    Frame(first: 0x88, payload: [UInt8(code >> 8), UInt8(code & 255)] + reason)
  }

  @Test(
    "7.1, 7.3, 7.5: what follows a close frame counts for nothing, and what it may hold",
    arguments: [
      ConformanceCase("7.1.1", [text("a"), goodbye], [message("a"), closed]),
      ConformanceCase("7.1.2", [goodbye, goodbye], [closed]),
      ConformanceCase("7.1.3", [goodbye, Frame(first: 0x89, payload: [])], [closed]),
      ConformanceCase("7.1.4", [goodbye, text("a")], [closed]),
      ConformanceCase("7.1.5", [text("a", 0x01), goodbye, text("b", 0x80)], [closed]),
      ConformanceCase("7.3.1", [Frame(first: 0x88, payload: [])], [.close(nil, "")]),
      ConformanceCase("7.3.2", [Frame(first: 0x88, payload: [3])], [.error(1002)]),
      ConformanceCase("7.3.3", [close(1000)], [closed]),
      ConformanceCase("7.3.4", [close(1000, Array("bye".utf8))], [.close(1000, "bye")]),
      ConformanceCase(
        "7.3.5", [close(1000, [UInt8](repeating: 0x2a, count: 123))],
        [.close(1000, String(repeating: "*", count: 123))]),
      ConformanceCase("7.3.6", [close(1000, [UInt8](repeating: 0x2a, count: 124))], [.error(1002)]),
      ConformanceCase("7.5.1", [close(1000, [0xce, 0xba, 0xed, 0xa0, 0x80])], [.error(1007)]),
    ])
  fileprivate func closing(_ one: ConformanceCase) { one.check() }

  @Test("7.7: every code that may be sent")
  func valid() {
    for code in Array(1000...1003) + Array(1007...1014) + [3000, 3999, 4000, 4999] {
      ConformanceCase("7.7, \(code)", [Self.close(code)], [.close(UInt16(code), "")]).check()
    }
  }

  @Test("7.9, 7.13: every code that may not")
  func invalid() {
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
      ConformanceCase("7.9, \(code)", [Self.close(code)], [.error(1002)]).check()
    }
  }
}

@Suite("P16 Conformance: compression (cases 12 and 13)")
struct ConformanceDeflateTests {
  @Test(
    "12, 13: messages of every size, many in a row, for every agreement",
    arguments: [
      (false, 15), (true, 15), (false, 9), (true, 9), (false, 8), (true, 8), (true, 12),
    ])
  func messages(_ takeover: Bool, _ bits: Int) {
    var setting = DeflateSetting()
    setting.agreement.serverNoContextTakeover = !takeover
    setting.agreement.clientNoContextTakeover = !takeover
    setting.agreement.serverMaxWindowBits = bits
    setting.agreement.clientMaxWindowBits = bits
    setting.options.keepsContext = takeover
    let sizes = [16, 64, 256, 1_024, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072]
    for role in [WebSocketRole.server, .client] {
      let payloads = sizes.flatMap { size in (0..<4).map { prose(size, seed: UInt64(size + $0)) } }
      let input = setting.frames(payloads, .text, to: role)
      let cuts = Array(stride(from: 1_000, to: input.count, by: 1_000))
      let events = readFrames(input, role: role, cuts: cuts, deflate: setting)
      #expect(events == payloads.map { .message(.text, $0) })
    }
  }
}
