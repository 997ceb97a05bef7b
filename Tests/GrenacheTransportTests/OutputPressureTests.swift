import Testing

@testable import GrenacheTransport

@Suite("Back-pressure: outputHighWaterBytes and outputLowWaterBytes")
struct OutputPressureTests {
  private let limits: ByteStreamLimits

  init() {
    var limits = ByteStreamLimits()
    limits.outputHighWaterBytes = 100
    limits.outputLowWaterBytes = 25
    self.limits = limits
  }

  @Test("too much waits from one past the high-water mark down to the low-water mark")
  func marks() {
    var pressure = OutputPressure()
    let flushes: [(waiting: Int, change: OutputPressure.Change, isHigh: Bool)] = [
      (0, .none, false), (100, .none, false), (101, .rose, true), (500, .none, true),
      (100, .none, true), (26, .none, true), (25, .fell(fromHigh: true), false),
      (25, .none, false), (0, .none, false), (101, .rose, true), (0, .fell(fromHigh: true), false),
    ]
    for flush in flushes {
      #expect(pressure.flushed(waiting: flush.waiting, limits: limits) == flush.change, "\(flush)")
      #expect(pressure.isHigh == flush.isHigh, "\(flush)")
    }
  }

  @Test("who may have seen too much wait is told, though a flush left less", arguments: [100, 101])
  func appended(_ count: Int) {
    var pressure = OutputPressure()
    pressure.appended(waiting: count, limits: limits)
    #expect(!pressure.isHigh)
    let isOver = count > limits.outputHighWaterBytes
    #expect(pressure.flushed(waiting: 26, limits: limits) == .none)
    #expect(
      pressure.flushed(waiting: 25, limits: limits) == (isOver ? .fell(fromHigh: false) : .none))
    #expect(pressure.flushed(waiting: 25, limits: limits) == .none)
  }

  @Test("that nothing waits is told once to who asked")
  func emptied() {
    var pressure = OutputPressure()
    let unasked = pressure.emptied()
    pressure.tellWhenEmpty()
    let (asked, again) = (pressure.emptied(), pressure.emptied())
    #expect(!unasked && asked && !again)
  }

  @Test("what is released is high no more, and still owes a word")
  func released() {
    var pressure = OutputPressure()
    #expect(pressure.flushed(waiting: 101, limits: limits) == .rose)
    pressure.release()
    #expect(!pressure.isHigh)
    #expect(pressure.flushed(waiting: 0, limits: limits) == .fell(fromHigh: false))
  }
}
