import GrenacheFraming
import Testing

@testable import GrenacheTransport

@Suite("RFC 6455 §7.1 What is told of the end of a connection")
struct WebSocketEndingTests {
  private let late = TransportError.timedOut(.transfer, after: .seconds(1), peer: nil)
  private let broken = TransportError.closed("reset", peer: nil)

  @Test("after a handshake that is done nothing breaks the connection")
  func inOrder() {
    var ending = WebSocketEnding()
    #expect(ending.isOpen && !ending.isDone)
    #expect(ending.closeRequested(.normal) == .sendClose(.normal))
    #expect(!ending.isOpen && !ending.isDone)
    #expect(ending.closeReceived(.goingAway, reason: "later") == .closeTransport)
    #expect(ending.isDone && !ending.isBroken)
    ending.cutShort(late)
    #expect(
      ending.closed(broken)
        == WebSocketClosure(code: .goingAway, reason: "later", error: nil, violation: nil))
  }

  @Test("what breaks it first is told", arguments: [false, true])
  func first(_ isClosing: Bool) {
    var ending = WebSocketEnding()
    if isClosing { #expect(ending.closeRequested(.normal) == .sendClose(.normal)) }
    ending.cutShort(late)
    #expect(ending.isBroken)
    #expect(ending.closed(broken).error == late)
  }

  @Test("without anything that breaks it, the end of the stream says what was wrong")
  func streamFails() {
    var (failed, ended) = (WebSocketEnding(), WebSocketEnding())
    #expect(failed.closed(broken).error == broken)
    #expect(ended.closed(nil) == WebSocketClosure())
  }

  @Test("what the peer has done wrong is told with the code, even behind its close frame")
  func violation() {
    let violation = WebSocketError.messageTooSlow
    for (isDone, action) in [
      (false, WebSocketEnding.Action.sendCloseAndEnd(violation.closeCode)), (true, .none),
    ] {
      var ending = WebSocketEnding()
      if isDone {
        #expect(ending.closeReceived(.normal, reason: "") == .sendCloseAndEnd(.normal))
      }
      #expect(ending.violationFound(violation, by: nil) == action)
      #expect(ending.isBroken)
      let closure = ending.closed(broken)
      #expect(closure.violation == violation.closeCode)
      #expect(closure.error == TransportError(violation, peer: nil))
    }
  }

  @Test("a peer that may do nothing any more is told so with 1008, which is no violation of its")
  func refused() {
    var ending = WebSocketEnding()
    #expect(ending.refused(broken) == .sendCloseAndEnd(.policyViolation))
    let closure = ending.closed(nil)
    #expect(closure.error == broken && closure.violation == nil)
  }
}
