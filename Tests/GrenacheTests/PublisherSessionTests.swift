import GrenacheFraming
import GrenacheIO
import Testing

@testable import Grenache
@testable import GrenacheTransport

@Suite("One connection to a publisher")
struct PublisherSessionTests {
  private let start = MonotonicTime(nanoseconds: 1)

  @Test("what has never been opened changes nothing; what has been counts once")
  func counts() {
    var never = PublisherSession()
    #expect(!never.isOpened && !never.isExtended)
    #expect(never.closed(WebSocketClosure(code: .goingAway), at: start) == .unopened)
    for isExtended in [false, true] {
      var session = PublisherSession()
      session.opened(isExtended: isExtended)
      #expect(session.isOpened && session.isExtended == isExtended)
      let end = session.closed(WebSocketClosure(), at: start)
      #expect(end == (isExtended ? .numbered(isInOrder: false) : .unnumbered))
      #expect(!session.isOpened)
      #expect(session.closed(WebSocketClosure(), at: start) == .unopened)
    }
  }

  @Test(
    "1001 says that everything was said, if nothing broke, and it was read in time",
    arguments: [
      (WebSocketCloseCode.goingAway, false, nil as Int?, true), (.normal, false, nil, false),
      (.goingAway, true, nil, false), (.goingAway, false, 9, false), (.goingAway, false, 10, true),
    ])
  func inOrder(
    _ code: WebSocketCloseCode, _ isBroken: Bool, _ secondsSincePause: Int?, _ isInOrder: Bool
  ) {
    var session = PublisherSession()
    session.opened(isExtended: true)
    if secondsSincePause != nil {
      session.paused()
      session.resumed(at: start)
    }
    var closure = WebSocketClosure(code: code)
    if isBroken { closure.error = .closed("reset", peer: nil) }
    let end = session.closed(closure, at: start + .seconds(secondsSincePause ?? 0))
    #expect(end == .numbered(isInOrder: isInOrder))
  }

  @Test("the publisher is heard for the first time once")
  func heard() {
    var session = PublisherSession()
    #expect(!session.hasHeard)
    let (first, second) = (session.heard(), session.heard())
    #expect(first && !second && session.hasHeard)
  }

  @Test("how a connection ends is told if it was no good, or if somebody may not do something")
  func failures() {
    let closures: [(WebSocketClosure, isGood: Bool, isTold: Bool)] = [
      (WebSocketClosure(code: .normal), true, false),
      (WebSocketClosure(code: .normal), false, true),
      (WebSocketClosure(code: .policyViolation), true, true),
      (WebSocketClosure(error: .closed("reset", peer: nil)), true, false),
    ]
    for (closure, isGood, isTold) in closures {
      var (left, moved) = (PublisherSession(), PublisherSession())
      #expect(left.isFailure(closure, isGood: isGood) == isTold)
      left.denied()
      moved.moves()
      #expect(!left.isFailure(closure, isGood: isGood) && !left.isMoving)
      #expect(!moved.isFailure(closure, isGood: isGood) && moved.isMoving)
    }
  }

  @Test("a message that is not taken is one too large or not what it says")
  func untaken() {
    for (code, isUntaken) in [
      (WebSocketCloseCode.messageTooBig, true), (.invalidPayload, true), (.policyViolation, false),
    ] {
      #expect(WebSocketClosure(violation: code).isOfUntakenMessage == isUntaken)
      #expect(!WebSocketClosure(code: code).isOfUntakenMessage)
    }
  }
}
