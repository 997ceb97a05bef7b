import Testing

@testable import Grenache

@Suite("Waiting for subscribers", .timeLimit(.minutes(1)))
struct PubAudienceTests {
  private let audience = PubAudience()

  @Test("whoever waits goes on when there are enough, counted over all loops")
  func enough() async {
    async let two: Void = audience.wait(for: 2)
    async let three: Void = audience.wait(for: 3)
    await audience.wait(for: 0)
    audience.change(by: 1)
    audience.change(by: -1)
    audience.change(by: 1)
    audience.change(by: 1)
    await two
    audience.change(by: 1)
    await three
    #expect(audience.count == 3)
    await audience.wait(for: 3)
  }

  @Test("a task that is cancelled waits no more, before it waits, while, and behind")
  func cancellation() async {
    for number in 0..<100 {
      let task = Task { await audience.wait(for: 1_000) }
      for _ in 0..<number % 3 { await Task.yield() }
      task.cancel()
      await task.value
    }
    audience.change(by: 1_000)
    await audience.wait(for: 1_000)
  }
}
