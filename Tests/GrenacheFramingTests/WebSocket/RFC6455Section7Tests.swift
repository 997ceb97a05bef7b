import ConformanceCases
import Testing

@testable import GrenacheFraming

private func text(_ string: String) -> [UInt8] { Array(string.utf8) }

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
