import ConformanceCases
import TestSupport
import Testing

@testable import GrenacheFraming

private func text(_ string: String) -> [UInt8] { Array(string.utf8) }

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
