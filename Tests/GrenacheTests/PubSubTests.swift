import Foundation
import Grenache
import GrenacheAccess
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import TestSupport
import Testing

@testable import Grenache

@Suite("Publish and subscribe", .timeLimit(.minutes(1)))
struct PubSubTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func secure() throws -> PeerPubConfiguration {
    PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
  }

  private func subscriber(
    _ grape: FixedGrape, configure: (inout PeerSubConfiguration) -> Void = { _ in }
  ) async throws -> PeerSub {
    try await GrenacheTests.subscriber(
      grape.endpoint, try authority.client(), configure: configure)
  }

  @Test("texts and bytes, with topics and numbers, over mutual TLS")
  func messages() async throws {
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let heard = try await events(of: try await subscriber(grape), 3) {
      try await news.subscribers(1)
      try await news.pub.publish(PubMessage("one"))
      try await news.pub.publish(PubMessage(bytes: [0, 255], topic: "raw"))
      try await news.pub.publish(PubMessage("quote \" \u{e9}", topic: "text"))
    }
    var expected = [
      PubMessage("one"), PubMessage(bytes: [0, 255], topic: "raw"),
      PubMessage("quote \" \u{e9}", topic: "text"),
    ]
    guard case .message(let first, _) = heard.first else { throw CancellationError() }
    #expect(first.run != nil)
    for index in expected.indices {
      expected[index].number = UInt64(index + 1)
      expected[index].run = first.run
    }
    #expect(heard == expected.map { .message($0, from: news.endpoint) })
    await news.stop()
    await grape.stop()
  }

  @Test("only the topics that were asked for")
  func topics() async throws {
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let sub = try await subscriber(grape) { $0.topics = ["a"] }
    let heard = try await events(of: sub, 2) {
      try await news.subscribers(1)
      for topic in ["b", "a", nil, "a"] {
        try await news.pub.publish(PubMessage(topic ?? "none", topic: topic))
      }
    }
    let texts = heard.map { event in
      if case .message(let message, _) = event { message.text } else { "gap" }
    }
    #expect(texts == ["a", "a"])
    await news.stop()
    await grape.stop()
  }

  @Test("all publishers of a key are followed, those that come later, too")
  func allPublishers() async throws {
    let first = try await RunningPub("news", try secure())
    let second = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint])
    let heard = try await events(of: try await subscriber(grape), 2) {
      try await first.subscribers(1)
      try await first.pub.publish(PubMessage("first"))
      grape.answer([first.endpoint, second.endpoint])
      try await second.subscribers(1)
      try await second.pub.publish(PubMessage("second"))
    }
    let sources = heard.compactMap { event -> Endpoint? in
      if case .message(_, let from) = event { from } else { nil }
    }
    #expect(Set(sources) == [first.endpoint, second.endpoint])
    await first.stop()
    await second.stop()
    await grape.stop()
  }

  @Test(
    "P20 a publisher whose certificate covers its address and not the key is not listened to",
    arguments: [false, true])
  func impostor(_ acceptsByAddress: Bool) async throws {
    let impostor = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.host(services: ["other"])))
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([impostor.endpoint, news.endpoint])
    let sub = try await subscriber(grape) { $0.acceptsPublishersByAddress = acceptsByAddress }
    _ = try await events(of: sub, 50) {
      try await news.subscribers(1)
      if acceptsByAddress { try await impostor.subscribers(1) }
      for number in 0..<50 {
        try await news.pub.publish(PubMessage("\(number)"))
        #expect(await impostor.pub.subscriberCount == (acceptsByAddress ? 1 : 0))
      }
    }
    await impostor.stop()
    await news.stop()
    await grape.stop()
  }

  @Test("what a publisher still says to a subscriber that is gone touches nobody")
  func late() async throws {
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let said = Flag()
    let saying = Task {
      var count = 0
      while !said.isSet {
        try await news.pub.publish(PubMessage(String(repeating: "x", count: 1_000)))
        count += 1
      }
      return count
    }
    for _ in 0..<20 {
      // Gone with the end of the statement, while messages are on their way to it.
      _ = try await events(of: try await subscriber(grape), 3) {}
    }
    said.set()
    #expect(try await saying.value > 0)
    await news.stop()
    await grape.stop()
  }

  @Test("P26 a policy decides who may publish, and a change counts at once")
  func publishers() async throws {
    func policy(_ keys: String) -> AccessPolicy {
      AccessPolicy([
        .init("news", allow: [.publish], on: .patterns([keys]), to: [.uri("grenache:news")])
      ])
    }
    let news = try await RunningPub("news", try secure())
    let other = try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("*")))
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([other.endpoint, news.endpoint])
    let access = AccessControl(policy("news"))
    let sub = try await subscriber(grape) { $0.access = access }
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    try await news.subscribers(1)
    try await news.pub.publish(PubMessage("first"))
    guard case .message(let first, _)? = await heard.next() else { throw CancellationError() }
    #expect(first.text == "first")
    // Its certificate covers every key, and the rule is about another one.
    #expect(await other.pub.subscriberCount == 0)
    access.policy = policy("others")
    try await news.pub.publish(PubMessage("second"))
    try await news.subscribers(0)
    access.policy = policy("news")
    try await news.subscribers(1)
    try await news.pub.publish(PubMessage("third"))
    while let event = await heard.next() {
      if case .message(let message, _) = event, message.text == "third" { break }
    }
    running.cancel()
    await running.value
    await news.stop()
    await other.stop()
    await grape.stop()
  }

  @Test("P26 a publisher that says nothing is left within a second of the policy's change")
  func idlePublisher() async throws {
    let news = try await RunningPub("news", try secure())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint])
    let access = AccessControl(
      AccessPolicy([
        .init("news", allow: [.publish], on: .patterns(["news"]), to: [.uri("grenache:news")])
      ]))
    let sub = try await subscriber(grape) { $0.access = access }
    let running = Task { await sub.run() }
    try await news.subscribers(1)
    // Another subscriber's connection of the same link is nobody's to close.
    let other = try await PeerSub("news", link: sub.link)
    let otherRunning = Task { await other.run() }
    try await news.subscribers(2)
    while await sub.publishers.isEmpty { await Task.yield() }
    // A change that leaves the right leaves the connection.
    access.policy = AccessPolicy([
      .init("all", allow: [.publish], on: .patterns(["*"]), to: [.anyone])
    ])
    while await sub.publishers.isEmpty { await Task.yield() }
    let start = ContinuousClock.now
    access.policy = AccessPolicy([])
    try await news.subscribers(1)
    #expect(ContinuousClock.now - start < .seconds(2))
    #expect(await sub.publishers.isEmpty)
    #expect(await other.publishers == [news.endpoint])
    running.cancel()
    await running.value
    otherRunning.cancel()
    await otherRunning.value
    await news.stop()
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
    configuration.bufferMax = eventsMax
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

  @Test(
    "P37 subscribers come back by themselves to a publisher that starts again, told of a gap if there is",
    arguments: [true, false])
  func reconnect(_ vanishes: Bool) async throws {
    let first = try await RunningPub("news", try secure()) { $0.drainDeadline = .seconds(20) }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint])
    var again = try secure()
    again.port = first.endpoint.port
    let configuration = again
    let heard = try await events(of: try await subscriber(grape), vanishes ? 3 : 2) {
      try await first.subscribers(1)
      try await first.pub.publish(PubMessage("before"))
      if vanishes { await first.vanish() } else { await first.stop() }
      let second = try await RunningPub("news", configuration)
      try await second.subscribers(1)
      try await second.pub.publish(PubMessage("after"))
      try await Task.sleep(for: .seconds(30))
    }
    let texts = heard.map { event in
      switch event {
      case .message(let message, _): message.text
      case .gap(let numbers, _, _): numbers == nil ? "gap" : "numbers"
      }
    }
    // Whoever goes in order has said everything.
    #expect(texts == (vanishes ? ["before", "gap", "after"] : ["before", "after"]))
    await grape.stop()
  }

  @Test("a subscriber that says where it was gets what is kept, and is told what is not")
  func replay() async throws {
    var configuration = try secure()
    configuration.replayMessagesMax = 3
    let news = try await RunningPub("news", configuration)
    let tls = try authority.client()
    let first = try await RawSubscriber(
      to: news.endpoint, tls: tls, subprotocols: PubWire.offeredSubprotocols)
    await first.say("{\"subscribe\":{}}")
    let opening = try #require(await first.heard(1).first)
    let control = try #require(PubWire.control(from: Array(opening.utf8)))
    #expect(control.next == 1)
    for number in 1...5 { try await news.pub.publish(PubMessage("m\(number)")) }
    for (after, expected) in [
      (4, ["[5,null,\"m5\"]"]), (5, []),
      (
        0,
        [
          "{\"gap\":{\"from\":1,\"to\":2}}", "[3,null,\"m3\"]", "[4,null,\"m4\"]",
          "[5,null,\"m5\"]",
        ]
      ),
    ] {
      let again = try await RawSubscriber(
        to: news.endpoint, tls: tls, subprotocols: PubWire.offeredSubprotocols)
      await again.say(
        "{\"subscribe\":{\"after\":\(after),\"epoch\":\"\(control.epoch ?? "")\"}}")
      let heard = await again.heard(1 + expected.count)
      #expect(Array(heard.dropFirst()) == expected)
    }
    await news.stop()
  }

  @Test("existing subscribers in the clear: connecting is subscribing, messages come as they are")
  func existingSubscriber() async throws {
    let news = try await RunningPub("news", .insecurePlaintext(port: 0))
    let raw = try await RawSubscriber(to: news.endpoint, tls: nil)
    try await news.subscribers(1)
    try await news.pub.publish(PubMessage("{\"not\":encoded}", topic: "x"))
    try await news.pub.publish(PubMessage(bytes: Array("raw".utf8)))
    await raw.say("ignored")
    try await news.pub.publish(PubMessage("last"))
    #expect(await raw.heard(3) == ["{\"not\":encoded}", "bytes:raw", "last"])
    await news.stop()
  }

  @Test("the policy decides who may subscribe")
  func denied() async throws {
    var configuration = try secure()
    configuration.access = AccessControl(AccessPolicy([]))
    let log = LogRecorder()
    let news = try await RunningPub("news", configuration, logger: log.logger)
    for _ in 0..<3 {
      await #expect(throws: TransportError.self) {
        _ = try await RawSubscriber(to: news.endpoint, tls: try authority.client())
      }
    }
    // Whoever comes again and again is one line.
    let lines = log.lines("denied: no rule of the access policy allows it")
    #expect(lines.count == 1)
    #expect(lines.first?["right"] == "subscribe" && lines.first?["service"] == "news")
    let who = lines.first?["by"]?.description ?? ""
    #expect(who.contains("client.test"), "\(lines)")
    await news.stop()
  }

  @Test(
    "P36 a subscriber that stalls loses messages, counted and told; the others lose none",
    arguments: [SlowSubscriberPolicy.dropOldest, .disconnect])
  func slow(_ policy: SlowSubscriberPolicy) async throws {
    var configuration = try secure()
    configuration.slowSubscribers = policy
    configuration.queueMessagesMax = 50
    let news = try await RunningPub("news", configuration)
    let tls = try authority.client()
    let stalled = try await RawSubscriber(to: news.endpoint, tls: tls, reads: false)
    var others: [RawSubscriber] = []
    for _ in 0..<5 { others.append(try await RawSubscriber(to: news.endpoint, tls: tls)) }
    try await news.subscribers(6)
    let text = String(repeating: "x", count: 32 << 10)
    var sent = 0
    while await news.pub.droppedCount == 0, await news.pub.subscriberCount == 6, sent < 4_000 {
      try await news.pub.publish(PubMessage(text))
      sent += 1
      for other in others where sent % 20 == 0 { _ = await other.heard(sent) }
    }
    for other in others { #expect(await other.heard(sent).count == sent) }
    if policy == .disconnect {
      #expect(await news.pub.subscriberCount == 5)
    } else {
      #expect(await news.pub.droppedCount > 0)
    }
    _ = stalled
    await news.stop()
  }
}

@Suite("Queues of publishers")
struct SubscriberQueueTests {
  func entry(_ number: UInt64, bytes: Int = 1) -> SubscriberQueue.Entry {
    .init(number: number, isText: true, payload: [UInt8](repeating: 0, count: bytes))
  }

  @Test("at the limit and one past it, by each policy", arguments: SlowSubscriberPolicy.allCases)
  func policies(_ policy: SlowSubscriberPolicy) {
    var queue = SubscriberQueue(messagesMax: 3, bytesMax: 100, policy: policy)
    for number in 1...3 { #expect(queue.append(entry(UInt64(number))) == .queued) }
    let outcome = queue.append(entry(4))
    var left: [UInt64] = []
    while let next = queue.popFirst() { left.append(next.number) }
    switch policy {
    case .dropOldest: #expect(outcome == .dropped(1) && left == [2, 3, 4])
    case .dropNewest: #expect(outcome == .dropped(1) && left == [1, 2, 3])
    case .disconnect: #expect(outcome == .disconnect)
    }
    #expect(queue.bytes == 0)
  }

  @Test("bytes count as well; what can never fit is dropped by itself")
  func bytes() {
    var queue = SubscriberQueue(messagesMax: 10, bytesMax: 10, policy: .dropOldest)
    #expect(queue.append(entry(1, bytes: 5)) == .queued)
    #expect(queue.append(entry(2, bytes: 5)) == .queued)
    #expect(queue.append(entry(3, bytes: 6)) == .dropped(2))
    #expect(queue.append(entry(4, bytes: 11)) == .dropped(1))
    #expect(queue.count == 1 && queue.bytes == 6)
  }

  @Test("the ring keeps the last, by number and by bytes")
  func ring() {
    var ring = ReplayRing(messagesMax: 3, bytesMax: 10)
    for number in 1...5 { #expect(ring.append(PubMessage("\(number)")).number == UInt64(number)) }
    #expect(ring.replay(after: 0).missing == 1...2)
    #expect(ring.replay(after: 0).messages.map(\.text) == ["3", "4", "5"])
    #expect(ring.replay(after: 1).missing == 2...2)
    #expect(ring.replay(after: 2).missing == nil)
    #expect(ring.replay(after: 3).messages.map(\.text) == ["4", "5"])
    #expect(ring.replay(after: 5).messages.isEmpty)
    #expect(ring.replay(after: .max).messages.isEmpty)
    _ = ring.append(PubMessage("12345678"))
    #expect(ring.replay(after: 0).messages.map(\.text) == ["4", "5", "12345678"])
    _ = ring.append(PubMessage("12345"))
    #expect(ring.replay(after: 0).messages.map(\.text) == ["12345"])
    _ = ring.append(PubMessage(String(repeating: "x", count: 11)))
    #expect(ring.replay(after: 0).messages.isEmpty)
    #expect(ring.replay(after: 2).missing == 3...8)
  }

  @Test(
    "what is no message", arguments: ["", "[", "[1]", "[1,null]", "[-1,null,\"a\"]", "[1,null,2]"])
  func noMessage(_ text: String) {
    #expect(PubWire.message(.text, Array(text.utf8).span) == nil)
    #expect(PubWire.message(.binary, Array(text.utf8).span) == nil)
  }

  @Test("messages are read as they were written")
  func roundTrip() {
    for topic in [nil, "t", "\u{e9}\""] {
      for message in [PubMessage("a\n\"", topic: topic), PubMessage(bytes: [0, 1], topic: topic)] {
        let kind: WebSocketMessageKind = if case .text = message.content { .text } else { .binary }
        let read = PubWire.message(kind, PubWire.payload(message, number: .max).span)
        var expected = message
        expected.number = .max
        #expect(read == expected)
      }
    }
  }
}
