import Testing

@testable import GrenacheFraming

@Suite("P6 The rate at which what was announced must come")
struct ReceiptRateTests {
  private static let promised = ReceiptRate(grace: .seconds(10), bytesPerSecondMin: 1 << 10)

  @Test(
    "1 KiB for each second behind the tenth is enough, one byte less is too slow",
    arguments: [
      (Duration.seconds(10), 1), (.milliseconds(10_500), 512), (.seconds(11), 1_024),
      (.seconds(70), 61_440), (.seconds(3_610), 3_686_400),
    ])
  func limit(_ elapsed: Duration, _ enough: Int) {
    #expect(!Self.promised.isTooSlow(enough, after: elapsed))
    #expect(Self.promised.isTooSlow(enough - 1, after: elapsed))
  }

  @Test("nothing is asked for before the grace is over")
  func grace() {
    #expect(!Self.promised.isTooSlow(0, after: .zero))
    #expect(!Self.promised.isTooSlow(0, after: .nanoseconds(9_999_999_999)))
    #expect(Self.promised.isTooSlow(0, after: .seconds(10)))
  }

  @Test("a rate of nothing still asks for a byte")
  func zero() {
    let lax = ReceiptRate(grace: .seconds(1), bytesPerSecondMin: 0)
    #expect(lax.isTooSlow(0, after: .seconds(1)))
    #expect(!lax.isTooSlow(1, after: .seconds(100_000)))
  }

  @Test("WebSocket messages take their rate from the configuration, by default 1 KiB/s after 10 s")
  func defaults() {
    #expect(WebSocketLimits().messageRate == Self.promised)
  }
}
