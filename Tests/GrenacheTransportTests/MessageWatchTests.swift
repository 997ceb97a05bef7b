import GrenacheFraming
import GrenacheIO
import Testing

@testable import GrenacheTransport

@Suite("P8 The rest of a message that has begun: messageRate")
struct MessageWatchTests {
  private let start = MonotonicTime(nanoseconds: 1)
  private let rate = ReceiptRate(grace: .seconds(10), bytesPerSecondMin: 100)

  private func time(_ seconds: Int) -> MonotonicTime { start + .seconds(seconds) }

  @Test("nobody looks while every message ends in the read in which it has begun")
  func whole() {
    var watch = MessageWatch(rate)
    for second in 0..<3 {
      watch.messageEnded()
      #expect(watch.received(50, isInMessage: false, at: time(second)) == .none)
      #expect(!watch.isWatching)
    }
    #expect(watch.timerFired(isReading: true, at: time(100)) == .none)
  }

  @Test(
    "the rate counts from the read in which the message has begun, its bytes included",
    arguments: [(0, 1_000, true), (1, 999, true), (1, 998, false), (1_000, 0, true)])
  func rate(_ first: Int, _ later: Int, _ goesOn: Bool) {
    var watch = MessageWatch(rate)
    #expect(watch.received(7, isInMessage: false, at: time(0)) == .none)
    #expect(watch.received(first, isInMessage: true, at: time(0)) == .look(after: .seconds(10)))
    #expect(watch.isWatching)
    #expect(watch.received(later, isInMessage: true, at: time(3)) == .none)
    let action = watch.timerFired(isReading: true, at: time(20))
    #expect(action == (goesOn ? .look(after: MessageWatch.interval) : .refuse))
  }

  @Test("with the message the watch ends; another one that has begun has its own time")
  func another() {
    var watch = MessageWatch(rate)
    #expect(watch.received(1, isInMessage: true, at: time(0)) == .look(after: .seconds(10)))
    watch.messageEnded()
    // The next one has begun in the same read.
    #expect(watch.received(1, isInMessage: true, at: time(9)) == .look(after: .seconds(10)))
    #expect(watch.timerFired(isReading: true, at: time(18)) != .refuse)
    #expect(watch.received(1, isInMessage: true, at: time(18)) == .none)
    watch.messageEnded()
    #expect(watch.received(1, isInMessage: false, at: time(19)) == .rest)
    #expect(!watch.isWatching)
    #expect(watch.received(1, isInMessage: false, at: time(20)) == .none)
  }

  @Test("while this side does not read nobody is slow, and then the time begins anew")
  func unread() {
    var watch = MessageWatch(rate)
    #expect(watch.received(1, isInMessage: true, at: time(0)) == .look(after: .seconds(10)))
    #expect(watch.timerFired(isReading: false, at: time(50)) == .look(after: .seconds(10)))
    #expect(watch.timerFired(isReading: true, at: time(59)) != .refuse)
    #expect(watch.timerFired(isReading: true, at: time(60)) == .refuse)
  }
}
