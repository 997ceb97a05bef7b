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

  @Test("openingDeadline: who says nothing by then is closed, not before; others stay")
  func opening() async throws {
    let deadline = Duration.milliseconds(500)
    let news = try await publisher { $0.openingDeadline = deadline }
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

  @Test("drainDeadline: a subscriber that takes nothing holds a shutdown up no longer")
  func drain() async throws {
    let news = try await publisher { $0.drainDeadline = .milliseconds(500) }
    let stalled = try await RawSubscriber(
      to: news.endpoint, tls: try authority.client(), reads: false)
    try await news.subscribers(1)
    let text = String(repeating: "x", count: 100 << 10)
    while await news.pub.droppedCount == 0 { try await news.pub.publish(PubMessage(text)) }
    let start = ContinuousClock.now
    await news.stop()
    let took = ContinuousClock.now - start
    #expect(took >= .milliseconds(499) && took < .seconds(4))
    _ = stalled
  }
}

@Suite("The limits of subscribers", .timeLimit(.minutes(1)))
struct SubLimitsTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func secure() throws -> PeerPubConfiguration {
    PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
  }

  private func subscriber(
    _ grape: FixedGrape, configure: (inout PeerSubConfiguration) -> Void
  ) async throws -> PeerSub {
    try await GrenacheTests.subscriber(
      grape.endpoint, try authority.client(), configure: configure)
  }

  @Test("publishersMax: as many as the limit are followed; one that goes makes room for another")
  func publishers() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    var news: [RunningPub] = []
    for _ in 0..<3 { news.append(try await RunningPub("news", try secure())) }
    grape.answer(news.map(\.endpoint))
    let sub = try await subscriber(grape) { $0.publishersMax = 2 }
    let running = Task { await sub.run() }
    while await sub.publishers.count < 2 { await Task.yield() }
    let asked = grape.lookups
    // The third is heard of again and again.
    while grape.lookups < asked + 5 { await Task.yield() }
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
    let sub = try await subscriber(grape) { $0.bufferMax = 1 }
    let core = await sub.link.loop.run { [link = sub.link, settings = sub.configuration] loop in
      LoopBound(SubCore("news", link: link, settings), on: loop)
    }
    let publishers = (0...SubCore.missedMax).map {
      Endpoint(host: "10.0.0.1", port: UInt16($0 + 1))
    }
    await core.loop.run { loop in
      let core = core.get(on: loop)
      core.add(.message(PubMessage("one"), from: publishers[0]), on: loop)
      // One after the other, and all of them once more: what is kept of one grows and counts once.
      for number in 1...2 as ClosedRange<UInt64> {
        for publisher in publishers { core.add(.gap(number...number, from: publisher), on: loop) }
      }
    }
    var heard: [SubscriptionEvent] = []
    for _ in 0...SubCore.missedMax {
      heard.append(try #require(await Self.next(core, on: core.loop)))
    }
    let told = publishers.prefix(SubCore.missedMax).map { SubscriptionEvent.gap(1...2, from: $0) }
    #expect(Set(heard.dropFirst()) == Set(told))
    await core.loop.run { loop in core.get(on: loop).stop(on: loop) }
    #expect(await Self.next(core, on: core.loop) == nil)
    await grape.stop()
  }

  private static func next(
    _ core: LoopBound<SubCore>, on loop: isolated EventLoop
  ) async -> SubscriptionEvent? {
    await core.get(on: loop).next(on: loop)
  }
}

/// A publisher that goes on speaking and never reads, so that it answers no close frame either.
private final class DeafPublisher: WebSocketHandler {
  private let number: Int

  init(_ number: Int) { self.number = number }

  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {
    connection.pauseReading(on: loop)
    Task { await speak(to: connection, on: loop) }
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {}

  private func speak(to connection: WebSocketConnection, on loop: isolated EventLoop) async {
    while connection.isOpen {
      connection.send(.text, Array("\(number)".utf8).span, on: loop)
      try? await Task.sleep(for: .milliseconds(20))
    }
  }
}

@Suite("P26 A publisher that may not publish any more and does not answer", .timeLimit(.minutes(1)))
struct DeafPublisherTests {
  @Test("nothing of it is heard from the change on, and its connection is broken off")
  func left() async throws {
    let authority = try TestAuthority()
    let connections = Mutex(0)
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(try authority.worker("news")),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.upgradeRequired) },
        openWebSocket: { _, _ in
          DeafPublisher(
            connections.withLock { count in
              count += 1
              return count
            })
        }),
      group: EventLoopGroup.shared(), logger: quietLogger)
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([Endpoint(server.localAddress)])
    func policy(_ key: String) -> AccessPolicy {
      AccessPolicy([.init("news", allow: [.publish], on: .patterns([key]), to: [.anyone])])
    }
    let access = AccessControl(policy("news"))
    let sub = try await subscriber(grape.endpoint, try authority.client()) { $0.access = access }
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    #expect(await heard.next().flatMap(Self.text) == "1")
    access.policy = policy("others")
    let start = ContinuousClock.now
    while await !sub.publishers.isEmpty { await Task.yield() }
    #expect(ContinuousClock.now - start < .seconds(1))
    access.policy = policy("news")
    // What was heard before the change; then, of a new connection, a gap and what is said there.
    var isLeft = false
    while let event = await heard.next() {
      guard let text = Self.text(event) else {
        isLeft = true
        continue
      }
      #expect(text == (isLeft ? "2" : "1"))
      if isLeft { break }
    }
    running.cancel()
    await running.value
    await server.shutDown(within: .zero)
    await grape.stop()
  }

  private static func text(_ event: SubscriptionEvent) -> String? {
    guard case .message(let message, _) = event else { return nil }
    return message.text
  }
}
