import GrenacheAccess
import GrenacheIO
import Testing

@Suite("Lines that strangers cause are logged once in a while")
struct LogThrottleTests {
  private let start = MonotonicTime.now()

  /// A throttle that has logged as many lines as it remembers, the first a second before the others.
  private func full() -> LogThrottle {
    let throttle = LogThrottle()
    #expect(throttle.isNew("a", now: start))
    for number in 1..<LogThrottle.linesMax {
      #expect(throttle.isNew("\(number)", now: start + .seconds(1)))
    }
    return throttle
  }

  @Test("a line is new once in a minute")
  func once() {
    let throttle = LogThrottle()
    #expect(throttle.isNew("a", now: start))
    #expect(!throttle.isNew("a", now: start + .seconds(59)))
    #expect(throttle.isNew("a", now: start + .seconds(60)))
  }

  @Test("only so many are, and one more as soon as the first of them is forgotten")
  func bound() {
    let throttle = full()
    #expect(!throttle.isNew("one more", now: start + .seconds(2)))
    #expect(!throttle.isNew("one more", now: start + .milliseconds(59_999)))
    #expect(throttle.isNew("one more", now: start + .seconds(60)))
    #expect(!throttle.isNew("another", now: start + .seconds(60)))
    #expect(throttle.isNew("another", now: start + .seconds(61)))
    #expect(!throttle.isNew("one more", now: start + .seconds(62)))
    for number in 1..<LogThrottle.linesMax - 1 {
      #expect(throttle.isNew("\(number)", now: start + .seconds(62)))
    }
    #expect(!throttle.isNew("yet another", now: start + .seconds(62)))
  }

  @Test("those who come when it is full do not each have all lines looked through")
  func cost() {
    let throttle = full()
    let began = ContinuousClock.now
    for number in 0..<50_000 {
      #expect(!throttle.isNew("more \(number)", now: start + .seconds(2)))
    }
    #expect(ContinuousClock.now - began < .seconds(5))
  }
}
