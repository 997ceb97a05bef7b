import Testing

@testable import GrenacheTransport

@Suite("RFC 6455 §5.5.3 Pongs behind output")
struct PongHoldTests {
  private func pinged(_ pongs: inout PongHold, _ byte: UInt8, beside outputBytes: Int) -> Bool {
    pongs.pinged([byte].span, beside: outputBytes)
  }

  @Test("a ping is answered at once beside as much output as is allowed, else it waits")
  func limit() {
    var pongs = PongHold()
    let (most, none) = (PongHold.outputBesideMax, pongs.take())
    #expect(none == nil)
    for (count, isAnswered) in [(0, true), (most, true), (most + 1, false)] {
      let isAnsweredNow = pinged(&pongs, 1, beside: count)
      #expect(isAnsweredNow == isAnswered)
    }
    let held = pongs.take()
    #expect(held == [1])
  }

  @Test("one pong waits, for the latest ping, though there were room for others meanwhile")
  func latest() {
    var pongs = PongHold()
    for (byte, count) in [(1, Int.max), (2, .max), (3, 0)] as [(UInt8, Int)] {
      let isAnswered = pinged(&pongs, byte, beside: count)
      #expect(!isAnswered)
    }
    let (held, again) = (pongs.take(), pongs.take())
    #expect(held == [3] && again == nil)
    let isAnswered = pinged(&pongs, 4, beside: 0)
    #expect(isAnswered)
  }
}
