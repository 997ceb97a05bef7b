import GrenacheIO
import Testing

@testable import GrenacheTransport

@Suite("Whether a stream moves")
struct IdleWatchTests {
  @Test(
    "it is idle when no look of the last three seconds has found more bytes than the one before")
  func looks() {
    let start = MonotonicTime(nanoseconds: 1)
    var watch = IdleWatch(at: start)
    let looks: [(second: Int, moved: Int, isIdle: Bool)] = [
      (1, 0, false), (2, 0, false), (3, 0, true), (4, 1, false), (5, 1, false), (6, 1, false),
      (7, 1, true), (8, 2, false), (9, 3, false), (11, 3, false), (12, 3, true),
    ]
    for look in looks {
      let isIdle = watch.isIdle(
        look.moved, at: start + .seconds(look.second), for: .seconds(3))
      #expect(isIdle == look.isIdle, "\(look)")
    }
  }
}
