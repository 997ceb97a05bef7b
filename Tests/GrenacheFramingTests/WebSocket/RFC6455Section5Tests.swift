import ConformanceCases
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
