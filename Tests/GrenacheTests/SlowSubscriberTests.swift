import TestSupport
import Testing

@testable import Grenache

@Suite("P36 One of twenty subscribers stalls", .timeLimit(.minutes(1)))
struct SlowSubscriberTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("the other nineteen hear each message soon after it is published")
  func stalled() async throws {
    let news = try await RunningPub("news", try secure())
    let tls = try authority.client()
    func subscriber(_ opening: String, reads: Bool) async throws -> RawSubscriber {
      let raw = try await RawSubscriber(
        to: news.endpoint, tls: tls, subprotocols: PubWire.offeredSubprotocols, reads: reads)
      await raw.say(opening)
      return raw
    }
    var others: [RawSubscriber] = []
    for _ in 0..<19 {
      others.append(try await subscriber("{\"subscribe\":{\"topics\":[\"tick\"]}}", reads: true))
    }
    let stalled = try await subscriber("{\"subscribe\":{}}", reads: false)
    try await news.subscribers(20)
    // Only the one that stalls has asked for this: until its queue is full.
    let filling = PubMessage(String(repeating: "x", count: 32 << 10), topic: "fill")
    var sent = 0
    while await news.pub.droppedCount == 0, sent < 4_000 {
      try await news.pub.publish(filling)
      sent += 1
    }
    try #require(await news.pub.droppedCount > 0)
    var longest = Duration.zero
    for number in 1...50 {
      let dropped = await news.pub.droppedCount
      let start = ContinuousClock.now
      try await news.pub.publish(PubMessage("\(number)", topic: "tick"))
      try await news.pub.publish(filling)
      for other in others {
        // The opening comes first.
        #expect(await other.heard(1 + number).last?.contains("\"\(number)\"") == true)
      }
      longest = max(longest, ContinuousClock.now - start)
      #expect(await news.pub.droppedCount > dropped, "it still stalls")
    }
    #expect(longest < .seconds(2))
    _ = stalled
    await news.stop()
  }
}
