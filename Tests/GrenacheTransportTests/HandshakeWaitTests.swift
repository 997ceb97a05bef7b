import GrenacheIO
import Testing

@testable import GrenacheTransport

@Suite("P3 How long a handshake has waited for its client")
struct HandshakeWaitTests {
  private let start = MonotonicTime(nanoseconds: 1_000_000_000)

  @Test("all waits together, however many they are; the time of this side does not count")
  func together() {
    var wait = HandshakeWait()
    wait.began(at: start)
    var now = start
    for round in 1...5 {
      now = now + .milliseconds(100)
      #expect(wait.quietSince.map { now - $0 } == .milliseconds(100 * round))
      wait.stepDue(at: now)
      #expect(wait.quietSince == nil)
      now = now + .seconds(3)
      wait.stepDue(at: now)
      wait.stepTaken(at: now)
      #expect(wait.quietSince.map { now - $0 } == .milliseconds(100 * round))
    }
  }

  @Test("a step that was not due changes nothing")
  func notDue() {
    var wait = HandshakeWait()
    wait.began(at: start)
    wait.stepTaken(at: start + .seconds(1))
    #expect(wait.quietSince == start)
  }
}
