import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Messages that are larger than a subscriber takes", .timeLimit(.minutes(1)))
struct PubSubTooLargeTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("without topics it is named and passed over, and told as a failure")
  func passedOver() async throws {
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let told = Mutex<[SubscriptionFailure]>([])
    let sub = try await subscriber(grape) {
      $0.webSocket.messageBytesMax = 10 << 10
      $0.failed = { failure in told.withLock { $0.append(failure) } }
    }
    let heard = try await events(of: sub, 4) {
      try await news.subscribers(1)
      try await news.pub.publish(PubMessage("one"))
      let large = PubMessage(String(repeating: "x", count: 20 << 10))
      for _ in 1...2 { try await news.pub.publish(large) }
      try await news.pub.publish(PubMessage("four"))
      try await Task.sleep(for: .seconds(30))
    }
    #expect(heard.map(\.summary) == ["one", "2...2", "3...3", "four"])
    #expect(told.withLock { $0.first?.publisher } == news.endpoint)
    #expect(told.withLock { $0.first?.error.cause?.code } == .protocolViolated)
    await news.stop()
    await grape.stop()
  }

  @Test(
    "with topics nobody knows its number: the publisher is tried again ever later, and that is told"
  )
  func topics() async throws {
    let large = Array("[1,\"a\",\"\(String(repeating: "x", count: 20 << 10))\"]".utf8)
    let scripted = try await ScriptedPublisher(
      tls: try authority.worker("news"), subprotocols: [PubWire.subprotocol]
    ) { connection, loop in
      connection.send(.text, Array("{\"epoch\":\"x\",\"next\":2}".utf8).span, on: loop)
      connection.send(.text, large.span, on: loop)
    }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([scripted.endpoint])
    let sub = try await subscriber(grape) {
      $0.topics = ["a"]
      $0.webSocket.messageBytesMax = 10 << 10
    }
    let running = Task { await sub.run() }
    try await eventually { scripted.callers.count >= 1 }
    let start = ContinuousClock.now
    try await eventually { scripted.callers.count >= 8 }
    // From 20 ms on, doubled six times, and half of each by chance.
    #expect(ContinuousClock.now - start > .milliseconds(1_200))
    try await eventually { await sub.failures.map(\.publisher) == [scripted.endpoint] }
    running.cancel()
    await running.value
    await scripted.stop()
    await grape.stop()
  }
}
