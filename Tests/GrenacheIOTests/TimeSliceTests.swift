import Testing

@testable import GrenacheIO

@Suite("P38 A loop's slice of its core's time")
struct TimeSliceTests {
  private func time(_ microseconds: Int) -> MonotonicTime {
    MonotonicTime(nanoseconds: 1_000_000_000 + UInt64(microseconds) * 1_000)
  }

  @Test(
    "0.2 ms since the loop began, or has waited for more than 0.02 ms between two turns",
    arguments: [
      ([], 199, false), ([], 200, true), ([], 5_000, true),
      ([(100, 105)], 200, true), ([(100, 120)], 200, true),
      ([(100, 121)], 320, false), ([(100, 121)], 321, true),
      ([(100, 121), (190, 195)], 320, false), ([(100, 121), (190, 195)], 321, true),
    ] as [([(Int, Int)], Int, Bool)])
  func length(_ waits: [(from: Int, to: Int)], _ end: Int, _ isUsedUp: Bool) {
    var slice = TimeSlice(began: time(0))
    for wait in waits { slice.turnBegins(at: time(wait.to), after: time(wait.from)) }
    #expect(slice.isUsedUp(at: time(end)) == isUsedUp)
  }

  @Test("who has let others run begins anew")
  func yielded() {
    var slice = TimeSlice(began: time(0))
    #expect(slice.isUsedUp(at: time(250)))
    slice.turnBegins(at: time(255), after: nil)
    #expect(!slice.isUsedUp(at: time(454)))
    #expect(slice.isUsedUp(at: time(455)))
  }
}
