import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Other addresses of a publisher", .timeLimit(.minutes(1)))
struct PublisherAliasTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func news(port: UInt16 = 0) async throws -> RunningPub {
    var configuration = try secure()
    configuration.port = port
    return try await RunningPub("news", configuration)
  }

  @Test("an address that failed is in nobody's way once its publisher is found at another one")
  func failures() async throws {
    let news = try await news()
    let relays = try [TCPRelay(to: news.endpoint), TCPRelay(to: news.endpoint)]
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([relays[0].endpoint])
    let sub = try await subscriber(grape)
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    try await eventually { await news.pub.subscriberCount == 1 }
    try await news.pub.publish(PubMessage("one"))
    _ = await heard.next()
    relays[0].stop()
    try await eventually { await !sub.failures.isEmpty }
    grape.answer(relays.map(\.endpoint))
    try await eventually { await news.pub.subscriberCount == 1 }
    try await news.pub.publish(PubMessage("two"))
    _ = await heard.next()
    #expect(await sub.failures.isEmpty)
    running.cancel()
    await running.value
    relays[1].stop()
    await news.stop()
    await grape.stop()
  }

  @Test("a publisher that starts again without its other addresses leaves one gap")
  func oneGap() async throws {
    let first = try await news()
    let relay = try TCPRelay(to: first.endpoint)
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint, relay.endpoint])
    let sub = try await subscriber(grape)
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    try await eventually { await first.pub.subscriberCount > 0 }
    try await first.pub.publish(PubMessage("first"))
    _ = await heard.next()
    let lookups = grape.lookups
    try await eventually { grape.lookups > lookups + 10 }
    relay.stop()
    await first.vanish()
    let second = try await news(port: first.endpoint.port)
    try await eventually { await second.pub.subscriberCount > 0 }
    grape.answer([second.endpoint])
    let later = grape.lookups
    try await eventually { grape.lookups > later + 20 }
    try await second.pub.publish(PubMessage("second"))
    #expect(await heard.next()?.summary == "gap")
    #expect(await heard.next()?.summary == "second")
    running.cancel()
    await running.value
    await second.stop()
    await grape.stop()
  }

  @Test("an address that another publisher has taken is found to be its own after a while")
  func taken() async throws {
    let first = try await news()
    let relay = try TCPRelay(to: first.endpoint)
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint])
    let sub = try await subscriber(grape) { $0.aliasAgeMax = .milliseconds(500) }
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    try await first.subscribers(1)
    grape.answer([first.endpoint, relay.endpoint])
    let lookups = grape.lookups
    try await eventually { grape.lookups > lookups + 10 }
    #expect(await sub.publishers == [first.endpoint])
    relay.stop()
    let second = try await news(port: relay.endpoint.port)
    try await eventually { await second.pub.subscriberCount == 1 }
    try await eventually { await first.pub.subscriberCount == 1 }
    try await second.pub.publish(PubMessage("second"))
    #expect(await heard.next()?.summary == "second")
    try await first.pub.publish(PubMessage("first"))
    #expect(await heard.next()?.summary == "first")
    running.cancel()
    await running.value
    await first.stop()
    await second.stop()
    await grape.stop()
  }

  @Test("who was left out is followed once an address of another publisher leads nowhere")
  func room() async throws {
    let (first, second) = (try await news(), try await news())
    let relays = try [TCPRelay(to: first.endpoint), TCPRelay(to: first.endpoint)]
    // What the grape answers; nothing as long as it fails.
    let known = Mutex<[Endpoint]?>(relays.map(\.endpoint))
    try await FakeGrape.with(
      try authority.host(),
      answer: { path, _ in
        guard path == "/lookup", let known = known.withLock({ $0 }) else { return (500, "") }
        return (200, "[\(known.map { "\"\($0)\"" }.joined(separator: ","))]")
      },
      { grape, asked in
        let sub = try await GrenacheTests.subscriber(grape, try authority.client()) {
          $0.publishersMax = 2
        }
        let running = Task { await sub.run() }
        func lookups(_ count: Int) async throws {
          let before = asked()
          try await eventually { asked() > before + count }
        }
        try await eventually { await first.pub.subscriberCount > 0 }
        try await lookups(10)
        #expect(await first.pub.subscriberCount == 1)
        let main = try #require(await sub.publishers.first)
        let other = relays.map(\.endpoint).filter { $0 != main }
        known.withLock { $0 = other + [second.endpoint] }
        try await lookups(10)
        #expect(await second.pub.subscriberCount == 0)
        known.withLock { $0 = nil }
        try await lookups(3)
        for relay in relays { relay.stop() }
        try await eventually { await second.pub.subscriberCount == 1 }
        running.cancel()
        await running.value
      })
    await first.stop()
    await second.stop()
  }

  /// A subscriber that follows `news` through the first relay and was asked anew through the other, which it has
  /// found to lead nowhere since.
  private func stale(
    _ news: RunningPub, _ body: (PeerSub, FixedGrape, TCPRelay, _ gone: UInt16) async throws -> Void
  ) async throws {
    let relays = try [TCPRelay(to: news.endpoint), TCPRelay(to: news.endpoint)]
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer(relays.map(\.endpoint))
    let sub = try await subscriber(grape) {
      $0.aliasAgeMax = .milliseconds(300)
      $0.reconnectDelayMax = .milliseconds(100)
    }
    let running = Task { await sub.run() }
    try await eventually { await news.pub.subscriberCount > 0 }
    // Both have been connected to by then.
    let lookups = grape.lookups
    try await eventually { grape.lookups > lookups + 10 }
    try await eventually { await sub.publishers.count == 1 }
    let main = try #require(await sub.publishers.first)
    let (kept, gone) = main == relays[0].endpoint ? (relays[0], relays[1]) : (relays[1], relays[0])
    gone.stop()
    // It is released from the one that is followed, and cannot be reached.
    try await eventually { await sub.failures.contains { $0.publisher == gone.endpoint } }
    try await body(sub, grape, kept, gone.endpoint.port)
    running.cancel()
    await running.value
    await grape.stop()
  }

  @Test("an address that was asked anew goes on where its publisher is, not where it was then")
  func staleReturn() async throws {
    let news = try await news()
    try await stale(news) { sub, _, kept, gone in
      var heard = sub.makeAsyncIterator()
      for number in 1...400 {
        try await news.pub.publish(PubMessage("\(number)"))
        #expect(await heard.next()?.summary == "\(number)")
      }
      kept.stop()
      try await eventually { await news.pub.subscriberCount == 0 }
      let back = try TCPRelay(to: news.endpoint, port: gone)
      try await eventually { await news.pub.subscriberCount == 1 }
      try await news.pub.publish(PubMessage("last"))
      #expect(await heard.next()?.summary == "last")
      back.stop()
    }
    await news.stop()
  }

  @Test("the first messages of a new run are named where one that was asked anew hears of it first")
  func newRun() async throws {
    let first = try await news()
    try await stale(first) { sub, _, kept, gone in
      var heard = sub.makeAsyncIterator()
      try await first.pub.publish(PubMessage("one"))
      #expect(await heard.next()?.summary == "one")
      await first.stop()
      kept.stop()
      let second = try await news(port: first.endpoint.port)
      for number in 1...5 { try await second.pub.publish(PubMessage("\(number)")) }
      let back = try TCPRelay(to: second.endpoint, port: gone)
      try await second.subscribers(1)
      try await second.pub.publish(PubMessage("six"))
      #expect(await heard.next()?.summary == "1...5")
      #expect(await heard.next()?.summary == "six")
      back.stop()
      await second.stop()
    }
  }

  @Test("two certificates without any name are not the same publisher's")
  func nameless() async throws {
    let scripted = try await ScriptedPublisher(tls: try authority.worker("news")) { _, _ in }
    for leaf in ["one", "two"] {
      let tls = try authority.authority.configuration(for: .init(commonName: leaf))
      _ = try await RawSubscriber(to: scripted.endpoint, tls: tls)
    }
    let identities = scripted.callers
    try #require(identities.count == 2 && identities.allSatisfy { $0?.names.isEmpty == true })
    var place = PublisherPlace(hasTopics: false)
    _ = place.cursor.opened(epoch: "x", next: 1)
    place.identity = identities[0]
    #expect(place.isSamePublisher(as: "x", identities[0]))
    #expect(!place.isSamePublisher(as: "x", identities[1]))
    await scripted.stop()
  }
}
