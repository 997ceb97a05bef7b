import ConformanceCases
import TestSupport
import Testing

@testable import GrenacheFraming

private let roles = [WebSocketRole.server, .client]

private func text(_ string: String) -> [UInt8] { Array(string.utf8) }

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
