import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("Gaps: every message that is lost is named", .timeLimit(.minutes(1)))
struct PubSubGapTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// What a subscriber has heard: numbers of messages, and those that gaps name.
  private func numbers(_ heard: some Sequence<String>) -> (came: [UInt64], named: Set<UInt64>) {
    var came: [UInt64] = []
    var named: Set<UInt64> = []
    for text in heard {
      let bytes = Array(text.utf8)
      if let number = PubWire.message(.text, bytes.span)?.number {
        came.append(number)
      } else if let gap = PubWire.control(from: bytes)?.gap {
        named.formUnion(gap.from...gap.to)
      }
    }
    return (came, named)
  }

  @Test(
    "P36 one that stalls holds at most 1 MiB, and is told of each message that it loses",
    arguments: [nil, ["a"]] as [[String]?], [SlowSubscriberPolicy.dropOldest, .dropNewest])
  func told(_ topics: [String]?, _ policy: SlowSubscriberPolicy) async throws {
    var configuration = PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
    configuration.slowSubscribers = policy
    let news = try await RunningPub("news", configuration)
    let stalled = try await RawSubscriber(
      to: news.endpoint, tls: try authority.client(), subprotocols: PubWire.offeredSubprotocols)
    await stalled.say(topics == nil ? "{\"subscribe\":{}}" : "{\"subscribe\":{\"topics\":[\"a\"]}}")
    _ = await stalled.heard(1)
    await stalled.pause()
    let text = String(repeating: "x", count: 48 << 10)
    var wanted: Set<UInt64> = []
    var sent: UInt64 = 0
    var held = 0
    func publish(_ text: String, _ topic: String) async throws {
      try await news.pub.publish(PubMessage(text, topic: topic))
      sent += 1
      if topics?.contains(topic) != false { wanted.insert(sent) }
    }
    while await news.pub.droppedCount < 20, sent < 4_000 {
      try await publish(text, "a")
      try await publish("no", "b")
      held = max(held, await news.pub.heldBytesMax)
    }
    #expect(await news.pub.droppedCount >= 20)
    #expect(held <= 1 << 20)
    await stalled.resume()
    // With what comes last everything before is decided, by each policy.
    let last = sent
    let heard = await stalled.heard(until: { heard in
      // Behind what decides there is one at most; to read all of them each time takes long.
      let (came, named) = self.numbers(heard.suffix(2))
      return (came.last ?? 0) >= last - 1 || named.contains(last - 1)
    })
    let (came, named) = numbers(heard)
    #expect(came == came.sorted())
    #expect(named.isDisjoint(with: came))
    let missing = wanted.subtracting(came).subtracting(named).filter { $0 < last }
    #expect(missing.isEmpty)
    #expect(named.intersection(wanted).count == (await news.pub.droppedCount))
    await news.stop()
  }

  @Test("a publisher that ends in order has said everything that waited")
  func drain() async throws {
    let configuration = PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
    let news = try await RunningPub("news", configuration) { $0.drainTimeout = .seconds(20) }
    let slow = try await RawSubscriber(
      to: news.endpoint, tls: try authority.client(), subprotocols: PubWire.offeredSubprotocols)
    await slow.say("{\"subscribe\":{}}")
    _ = await slow.heard(1)
    await slow.pause()
    let text = String(repeating: "x", count: 48 << 10)
    var sent: UInt64 = 0
    while await news.pub.droppedCount == 0, sent < 4_000 {
      try await news.pub.publish(PubMessage(text))
      sent += 1
    }
    async let stopped: Void = news.stop()
    await slow.resume()
    let (came, named) = numbers(await slow.heard(until: { _ in false }))
    await stopped
    #expect(Set(came).union(named) == Set(1...sent))
  }

  @Test("what is published while a publisher shuts down, or after, is refused")
  func refused() async throws {
    let configuration = PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
    let news = try await RunningPub("news", configuration)
    try await news.pub.publish(PubMessage("kept"))
    await news.stop()
    let error = await #expect(throws: GrenacheError.self) {
      try await news.pub.publish(PubMessage("lost"))
    }
    #expect(error?.code == .shuttingDown)
  }

  @Test("P36 one that comes back and falls behind the ring is as slow as any other")
  func overrun() {
    var ring = ReplayRing(messagesMax: 4, bytesMax: 1_000)
    func queue() -> SubscriberQueue {
      SubscriberQueue(messagesMax: 4, bytesMax: 1_000, policy: .dropOldest)
    }
    for _ in 1...10 { _ = ring.append(PubMessage("x")) }
    var feed = SubscriberFeed(queue(), after: 2)
    // What went while it was away is not its fault.
    #expect(feed.next(from: ring) == .gap(3...6))
    guard case .replay(_, 7) = feed.next(from: ring) else {
      Issue.record("7 is in the ring")
      return
    }
    for _ in 11...20 { _ = ring.append(PubMessage("x")) }
    #expect(feed.next(from: ring) == .overrun(8...16))
    // Whoever is told everything at once is never behind.
    var current = SubscriberFeed(queue(), after: 20)
    #expect(current.next(from: ring) == nil)
  }

  @Test("publishers that come and go are told by the grape, without looking them up")
  func watch() async throws {
    let grape = try await RunningGrape(tls: try authority.host())
    let link = try await Link(
      LinkConfiguration(grapes: [grape.endpoint], tls: try authority.worker("news")),
      logger: quietLogger)
    let configuration = PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
    let sub = try await subscriber(grape.endpoint, try authority.client()) {
      $0.lookupInterval = .seconds(600)
    }
    let other = try await PeerSub("news", link: sub.link, configuration: sub.configuration)
    let running = Task { await other.run() }
    let heard = try await events(of: sub, 2) {
      // Watching begins before there is anybody.
      try await eventually { await sub.isWatching }
      let first = try await RunningPub("news", configuration, link: link)
      try await first.subscribers(2)
      try await first.pub.publish(PubMessage("first"))
      await first.stop()
      let second = try await RunningPub("news", configuration, link: link)
      try await second.subscribers(2)
      try await second.pub.publish(PubMessage("second"))
      return second
    }
    let texts = heard.map { event in
      if case .message(let message, _) = event { message.text } else { "gap" }
    }
    // The first said everything before it went, so that nothing is missing.
    #expect(texts == ["first", "second"])
    running.cancel()
    await running.value
    await grape.stop()
  }

  @Test("of a publisher that lookups lack for a while nothing is lost")
  func missingForAWhile() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let news = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("news")))
    grape.answer([news.endpoint])
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let heard = try await events(of: sub, 3) {
      try await news.subscribers(1)
      try await news.pub.publish(PubMessage("one"))
      grape.answer([])
      let lookups = grape.lookups
      try await eventually { grape.lookups >= lookups + 2 }
      await news.pub.abortSubscribers()
      try await news.pub.publish(PubMessage("two"))
      try await news.subscribers(1)
      try await news.pub.publish(PubMessage("three"))
    }
    let texts = heard.map { event in
      if case .message(let message, _) = event { message.text } else { "gap" }
    }
    #expect(texts == ["one", "two", "three"])
    await news.stop()
    await grape.stop()
  }

  @Test("a publisher that vanishes for good leaves a gap")
  func vanished() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let configuration = PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
    let news = try await RunningPub("news", configuration)
    grape.answer([news.endpoint])
    // It is gone before anybody comes back.
    let sub = try await subscriber(grape.endpoint, try authority.client()) {
      $0.reconnectDelayMin = .seconds(2)
    }
    let heard = try await events(of: sub, 2) {
      try await news.subscribers(1)
      try await news.pub.publish(PubMessage("last words"))
      await news.vanish()
      grape.answer([])
    }
    guard case .message(let last, _) = heard.first else { throw CancellationError() }
    #expect(last.run != nil)
    #expect(heard.last == .gap(nil, run: last.run, from: news.endpoint))
    await grape.stop()
  }
}

@Suite("Where a subscriber is")
struct PublisherCursorTests {
  @Test("runs, gaps and holes", arguments: [false, true])
  func steps(_ hasTopics: Bool) {
    var cursor = PublisherCursor(hasTopics: hasTopics)
    #expect(cursor.after == nil && cursor.isComplete)
    var gap = cursor.opened(epoch: "a", next: 18)
    #expect(gap == nil && cursor.after == 17)
    #expect(cursor.received(18) == (true, nil))
    // A hole that nobody has named: of other topics, or lost.
    #expect(cursor.received(21) == (true, hasTopics ? nil : .numbers(19...20)))
    #expect(cursor.received(21) == (false, nil))
    gap = cursor.lost(22...25)
    #expect(gap == .numbers(22...25) && cursor.after == 25)
    gap = cursor.lost(22...25)
    #expect(gap == nil)
    cursor.closed(inOrder: false)
    #expect(!cursor.isComplete)
    gap = cursor.opened(epoch: "a", next: 40)
    #expect(gap == nil && cursor.after == 25)
    gap = cursor.lost(30...35)
    #expect(gap == .numbers(hasTopics ? 30...35 : 26...35))
    gap = cursor.opened(epoch: "b", next: 1)
    #expect(gap == .unknown && cursor.after == 0)
    #expect(cursor.received(1) == (true, nil))
    cursor.closed(inOrder: true)
    #expect(cursor.isComplete)
    #expect(cursor.received(.max).isNew)
    #expect(!cursor.received(.max).isNew)
  }

  @Test("a publisher that goes in order is complete only if it had answered")
  func order() {
    var cursor = PublisherCursor(hasTopics: false)
    var gap = cursor.opened(epoch: "a", next: 11)
    cursor.closed(inOrder: false)
    // It closes with 1001 before it has heard what is wanted: what came meanwhile is missing.
    cursor.closed(inOrder: true)
    #expect(!cursor.isComplete)
    gap = cursor.opened(epoch: "b", next: 1)
    #expect(gap == .unknown)
    cursor.closed(inOrder: true)
    #expect(cursor.isComplete)
    // A run that has not said anything yet, and one that has.
    gap = cursor.opened(epoch: "c", next: 1)
    #expect(gap == nil)
    cursor.closed(inOrder: true)
    gap = cursor.opened(epoch: "d", next: 4)
    #expect(gap == .numbers(1...3))
  }
}

extension SubscriberQueueTests {
  @Test("what was given up is named where it would have been", arguments: [1, 2, 3, 8, 50])
  func lost(_ seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    for policy in [SlowSubscriberPolicy.dropOldest, .dropNewest] {
      var queue = SubscriberQueue(messagesMax: 4, bytesMax: 20, policy: policy)
      var seen: [UInt64] = []
      var dropped = 0
      func see(_ range: ClosedRange<UInt64>?) { seen += range.map(Array.init) ?? [] }
      for number in 1...500 as ClosedRange<UInt64> {
        let bytes = Int.random(in: 1...22, using: &generator)
        if case .dropped(let count) = queue.append(entry(number, bytes: bytes)) { dropped += count }
        guard Int.random(in: 0..<3, using: &generator) == 0, let next = queue.popFirst() else {
          continue
        }
        see(next.lostBefore)
        seen.append(next.number)
      }
      while let next = queue.popFirst() {
        see(next.lostBefore)
        seen.append(next.number)
      }
      see(queue.takeLostAtEnd())
      #expect(seen == Array(1...500))
      #expect(dropped > 0)
    }
  }
}
