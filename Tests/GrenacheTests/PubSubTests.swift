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
struct PubSubTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

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

  @Test(
    "P37 subscribers come back by themselves to a publisher that starts again, told of a gap if there is",
    arguments: [true, false])
  func reconnect(_ vanishes: Bool) async throws {
    let first = try await RunningPub("news", try secure()) { $0.drainTimeout = .seconds(20) }
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
      return second
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
