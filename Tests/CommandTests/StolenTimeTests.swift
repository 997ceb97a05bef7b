import Testing

@testable import CallBenchmark

@Suite("What a host takes of the processors' time")
struct StolenTimeTests {
  @Test("the share of all ticks between two looks at /proc/stat")
  func share() throws {
    let start = try #require(StolenTime.Ticks("cpu  100 0 50 800 10 0 5 35 7 7\ncpu0 1 2\n"))
    let end = try #require(StolenTime.Ticks("cpu  130 0 60 840 10 0 5 55 9 9\ncpu0 1 2\n"))
    #expect(start.all == 1_000 && start.stolen == 35)
    #expect(StolenTime.percent(start, end) == 20)
    #expect(StolenTime.percent(end, start) == nil)
    #expect(StolenTime.percent(start, start) == nil)
  }

  @Test(
    "what is not understood gives nothing",
    arguments: ["", "cpu0 1 2 3 4 5 6 7 8", "cpu  1 2 3 4 5 6 7", "cpu  1 2 3 x 5 6 7 8"])
  func unknown(_ text: String) {
    #expect(StolenTime.Ticks(text) == nil)
  }
}
