import GrenacheAccess
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("The limits of publishers", .timeLimit(.minutes(1)))
struct PubLimitsTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func publisher(
    _ configure: (inout PeerPubConfiguration) -> Void
  ) async throws -> RunningPub {
    try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("news")),
      configure: configure)
  }

  @Test("topicsMax: as many topics as the limit may be asked for, not one more", arguments: [0, 1])
  func topics(_ excess: Int) async throws {
    let news = try await publisher { $0.topicsMax = 3 }
    let raw = try await RawSubscriber(
      to: news.endpoint, tls: try authority.client(), subprotocols: PubWire.offeredSubprotocols)
    let topics = (0..<3 + excess).map { "\"t\($0)\"" }.joined(separator: ",")
    await raw.say("{\"subscribe\":{\"topics\":[\(topics)]}}")
    // An opening, or the connection closes.
    #expect(await raw.heard(1).count == 1 - excess)
    #expect(await news.pub.subscriberCount == 1 - excess)
    await news.stop()
  }

  @Test("openingTimeout: who says nothing by then is closed, not before; others stay")
  func opening() async throws {
    let deadline = Duration.milliseconds(500)
    let news = try await publisher { $0.openingTimeout = deadline }
    let tls = try authority.client()
    let existing = try await RawSubscriber(to: news.endpoint, tls: tls)
    let subscribed = try await RawSubscriber(
      to: news.endpoint, tls: tls, subprotocols: PubWire.offeredSubprotocols)
    await subscribed.say("{\"subscribe\":{}}")
    #expect(await subscribed.heard(1).count == 1)
    let start = ContinuousClock.now
    let silent = try await RawSubscriber(
      to: news.endpoint, tls: tls, subprotocols: PubWire.offeredSubprotocols)
    #expect(await silent.heard(1).isEmpty)
    let took = ContinuousClock.now - start
    #expect(took >= deadline && took < .seconds(8))
    #expect(await news.pub.subscriberCount == 2)
    try await news.pub.publish(PubMessage("one"))
    #expect(await existing.heard(1) == ["one"])
    #expect(await subscribed.heard(2).last == "[1,null,\"one\"]")
    await news.stop()
  }

  @Test("drainTimeout: a subscriber that takes nothing holds a shutdown up no longer")
  func drain() async throws {
    let news = try await publisher { $0.drainTimeout = .milliseconds(500) }
    let stalled = try await RawSubscriber(
      to: news.endpoint, tls: try authority.client(), reads: false)
    try await news.subscribers(1)
    let text = String(repeating: "x", count: 100 << 10)
    var sent = 0
    while await news.pub.droppedCount == 0, sent < 4_000 {
      try await news.pub.publish(PubMessage(text))
      sent += 1
    }
    #expect(await news.pub.droppedCount > 0)
    let start = ContinuousClock.now
    await news.stop()
    let took = ContinuousClock.now - start
    #expect(took >= .milliseconds(499) && took < .seconds(4))
    _ = stalled
  }
}

@Suite("The limits of subscribers", .timeLimit(.minutes(1)))
struct SubLimitsTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("publishersMax: as many as the limit are followed; one that goes makes room for another")
  func publishers() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    var news: [RunningPub] = []
    for _ in 0..<3 { news.append(try await RunningPub("news", try secure())) }
    grape.answer(news.map(\.endpoint))
    let sub = try await subscriber(grape) { $0.publishersMax = 2 }
    let running = Task { await sub.run() }
    try await eventually { await sub.publishers.count >= 2 }
    let asked = grape.lookups
    // The third is heard of again and again.
    try await eventually { grape.lookups >= asked + 5 }
    let followed = await sub.publishers
    #expect(followed.count == 2)
    let left = try #require(news.first { !followed.contains($0.endpoint) })
    #expect(await left.pub.subscriberCount == 0)
    let gone = try #require(news.first { $0.endpoint == followed[0] })
    grape.answer(news.map(\.endpoint).filter { $0 != gone.endpoint })
    await gone.stop()
    try await left.subscribers(1)
    running.cancel()
    await running.value
    for each in news { await each.stop() }
    await grape.stop()
  }

  @Test("connectTimeout: a publisher that does not answer is given up then, and tried again")
  func connecting() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let connections = Tally()
    try await withHostileServer(.counts(connections)) { endpoint in
      grape.answer([endpoint])
      let sub = try await subscriber(grape) { $0.connectTimeout = .milliseconds(500) }
      let running = Task { await sub.run() }
      await connections.reaches(1)
      let start = ContinuousClock.now
      await connections.reaches(2)
      let took = ContinuousClock.now - start
      // What lies between the two looks may make it seem shorter.
      #expect(took >= .milliseconds(400) && took < .seconds(8))
      running.cancel()
      await running.value
    }
    await grape.stop()
  }

  @Test("missedMax: gaps of so many publishers are told of; those of one more are not")
  func missed() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let sub = try await subscriber(grape) { $0.bufferEventsMax = 1 }
    let core = await sub.link.loop.run { [link = sub.link, settings = sub.configuration] loop in
      LoopBound(SubCore("news", link: link, settings), on: loop)
    }
    let publishers = (0...SubscriptionBuffer.missedMax).map {
      Endpoint(host: "10.0.0.1", port: UInt16($0 + 1))
    }
    await core.loop.run { loop in
      let core = core.get(on: loop)
      core.add(.message(PubMessage("one"), from: publishers[0]), on: loop)
      // One after the other, and all of them once more: what is kept of one grows and counts once.
      for number in 1...2 as ClosedRange<UInt64> {
        for publisher in publishers {
          core.add(.gap(number...number, run: "a", from: publisher), on: loop)
        }
      }
    }
    var heard: [SubscriptionEvent] = []
    for _ in 0...SubscriptionBuffer.missedMax {
      heard.append(try #require(await Self.next(core, on: core.loop)))
    }
    let told = publishers.prefix(SubscriptionBuffer.missedMax).map {
      SubscriptionEvent.gap(1...2, run: "a", from: $0)
    }
    #expect(Set(heard.dropFirst()) == Set(told))
    await core.loop.run { loop in core.get(on: loop).stop(on: loop) }
    #expect(await Self.next(core, on: core.loop) == nil)
    await grape.stop()
  }

  @Test("a message that no subscriber's queue can hold is refused; one byte less is delivered")
  func largest() async throws {
    var configuration = try secure()
    configuration.queueBytesMax = 100_000
    let news = try await RunningPub("news", configuration)
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    // The longest number, the topic, and what is around the text.
    let room = 100_000 - #"[18446744073709551615,"t",""]"#.utf8.count
    let escaped = String(repeating: "\n", count: room / 2)
    let heard = try await events(of: try await subscriber(grape), 3) {
      try await news.subscribers(1)
      for text in [String(repeating: "x", count: room + 1), escaped + "xx"] {
        let error = await #expect(throws: GrenacheError.self) {
          try await news.pub.publish(PubMessage(text, topic: "t"))
        }
        #expect(error?.code == .invalidPayload)
      }
      let bytes = 100_000 - PubWire.binaryHeadBytes
      await #expect(throws: GrenacheError.self) {
        try await news.pub.publish(PubMessage(bytes: [UInt8](repeating: 0, count: bytes + 1)))
      }
      try await news.pub.publish(PubMessage(String(repeating: "x", count: room), topic: "t"))
      try await news.pub.publish(PubMessage(escaped, topic: "t"))
      try await news.pub.publish(PubMessage(bytes: [UInt8](repeating: 0, count: bytes)))
    }
    let counts = heard.map { event in
      if case .message(let message, _) = event { message.text.utf8.count } else { -1 }
    }
    #expect(counts == [room, escaped.utf8.count, 100_000 - PubWire.binaryHeadBytes])
    await news.stop()
    await grape.stop()
  }

  @Test("topics are bounded on both sides", arguments: [255, 256])
  func topicBytes(_ count: Int) async throws {
    let isRight = count == 255
    let topic = String(repeating: "t", count: count)
    let grape = try await FixedGrape(tls: try authority.host())
    do {
      _ = try await subscriber(grape) { $0.topics = ["a", topic] }
      #expect(isRight)
    } catch let error as GrenacheError {
      #expect(!isRight && error.code == .invalidConfiguration)
    }
    let news = try await RunningPub("news", try secure())
    let raw = try await RawSubscriber(
      to: news.endpoint, tls: try authority.client(), subprotocols: PubWire.offeredSubprotocols)
    await raw.say("{\"subscribe\":{\"topics\":[\"a\",\"\(topic)\"]}}")
    // An opening, or the connection closes.
    #expect(await raw.heard(1).count == (isRight ? 1 : 0))
    await news.stop()
    await grape.stop()
  }

  @Test(
    "a subscriber that takes nothing holds so many events, or bytes, and names what it missed",
    arguments: [(3, 1 << 20), (100, 3_000)])
  func buffer(_ eventsMax: Int, _ bytesMax: Int) async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let link = try await Link(
      LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client()),
      logger: quietLogger)
    var configuration = PeerSubConfiguration()
    configuration.bufferEventsMax = eventsMax
    configuration.bufferBytesMax = bytesMax
    let (one, two) = (Endpoint(host: "10.0.0.1", port: 1), Endpoint(host: "10.0.0.2", port: 1))
    let settings = configuration
    let core = await link.loop.run { loop in
      LoopBound(SubCore("news", link: link, settings), on: loop)
    }
    @Sendable func message(_ number: UInt64) -> PubMessage {
      var message = PubMessage(String(repeating: "x", count: 1_000))
      message.number = number
      message.run = "a"
      return message
    }
    // Three fill it by either limit: what comes then is missed.
    await link.loop.run { loop in
      let core = core.get(on: loop)
      for number in 1...6 as ClosedRange<UInt64> {
        #expect(core.hasRoom == (number <= 3))
        core.add(.message(message(number), from: one), on: loop)
      }
      for _ in 0..<1_000 { core.add(.gap(nil, run: nil, from: two), on: loop) }
      core.add(.gap(8...9, run: "a", from: one), on: loop)
      // The same numbers of another run are others.
      core.add(.gap(1...2, run: "b", from: one), on: loop)
      core.add(.gap(11...12, run: "a", from: one), on: loop)
    }
    var heard: [SubscriptionEvent] = []
    while heard.count < 6 {
      guard let event = await Self.next(core, on: core.loop) else { break }
      heard.append(event)
    }
    let numbers = 1...3 as ClosedRange<UInt64>
    let taken = numbers.map { SubscriptionEvent.message(message($0), from: one) }
    #expect(Array(heard.prefix(3)) == taken)
    #expect(
      heard.suffix(3) == [
        .gap(4...12, run: "a", from: one), .gap(nil, run: nil, from: two),
        .gap(1...2, run: "b", from: one),
      ])
    await link.loop.run { loop in #expect(core.get(on: loop).hasRoom) }
    await grape.stop()
  }

  private static func next(
    _ core: LoopBound<SubCore>, on loop: isolated EventLoop
  ) async -> SubscriptionEvent? {
    await core.get(on: loop).next(on: loop)
  }
}
