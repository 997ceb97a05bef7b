import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Runs of a publisher that a subscriber does not hear of", .timeLimit(.minutes(1)))
struct PublisherRunTests: NewsSuite {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("one that comes and goes before the end of the run before was read lies in a gap")
  func swallowed() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let sub = try await subscriber(grape) { $0.bufferEventsMax = 4 }
    let first = try await RunningPub("news", try secure())
    grape.answer([first.endpoint])
    let running = Task { await sub.run() }
    try await first.subscribers(1)
    for number in 1...20 { try await first.pub.publish(PubMessage("\(number)")) }
    // It goes in order, and the subscriber, who takes nothing, has not read that.
    await first.stop()
    var again = try secure()
    again.port = first.endpoint.port
    let second = try await RunningPub("news", again)
    for _ in 1...5 { try await second.pub.publish(PubMessage("nobody is there")) }
    await second.stop()
    let third = try await RunningPub("news", again)
    var iterator = sub.makeAsyncIterator()
    var heard: [SubscriptionEvent] = []
    while heard.count < 20, let event = await iterator.next() { heard.append(event) }
    #expect(heard.map(\.summary) == (1...20).map { "\($0)" })
    try await third.subscribers(1)
    try await third.pub.publish(PubMessage("third"))
    guard case .message(let last, _)? = heard.last else { throw CancellationError() }
    #expect(await iterator.next() == .gap(nil, run: last.run, from: first.endpoint))
    #expect(await iterator.next()?.summary == "third")
    running.cancel()
    await running.value
    await third.stop()
    await grape.stop()
  }

  @Test("of one that ends in order and is read in time nothing is missing")
  func inTime() async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let sub = try await subscriber(grape) { $0.bufferEventsMax = 100 }
    let first = try await RunningPub("news", try secure())
    grape.answer([first.endpoint])
    var again = try secure()
    again.port = first.endpoint.port
    let second = again
    let heard = try await events(of: sub, 2) {
      try await first.subscribers(1)
      try await first.pub.publish(PubMessage("first"))
      await first.stop()
      let third = try await RunningPub("news", second)
      try await third.subscribers(1)
      try await third.pub.publish(PubMessage("second"))
      try await Task.sleep(for: .seconds(30))
    }
    #expect(heard.map(\.summary) == ["first", "second"])
    await grape.stop()
  }

  @Test("a connection that ends before it was answered leaves unknown what was said there")
  func unanswered() {
    var cursor = PublisherCursor(hasTopics: false)
    cursor.closed(inOrder: true)
    // Of a publisher of which nothing is known nothing is missing.
    #expect(cursor.isComplete)
    var gap = cursor.opened(epoch: "a", next: 1)
    cursor.closed(inOrder: true)
    #expect(cursor.isComplete)
    cursor.closed(inOrder: true)
    #expect(!cursor.isComplete)
    gap = cursor.opened(epoch: "b", next: 4)
    #expect(gap == .unknown)
  }

  @Test("one that comes back to another place of the same publisher has heard what was said there")
  func places() async throws {
    let connections = Mutex(0)
    let scripted = try await ScriptedPublisher(
      tls: try authority.worker("news"), subprotocols: [PubWire.subprotocol]
    ) { connection, loop in
      func say(_ text: String, on loop: isolated EventLoop) {
        connection.send(.text, Array(text.utf8).span, on: loop)
      }
      let count = connections.withLock { count in
        count += 1
        return count
      }
      if count == 1 {
        say("{\"epoch\":\"x.a\",\"next\":1}", on: loop)
        say("[1,null,\"one\"]", on: loop)
        say("[2,null,\"two\"]", on: loop)
        connection.close(.policyViolation, on: loop)
      } else {
        say("{\"epoch\":\"x.b\",\"next\":3}", on: loop)
        say("[3,null,\"three\"]", on: loop)
      }
    }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([scripted.endpoint])
    let heard = try await events(of: try await subscriber(grape), 4) {
      try await Task.sleep(for: .seconds(30))
    }
    #expect(heard.map(\.summary) == ["one", "two", "gap", "three"])
    #expect(heard[2] == .gap(nil, run: "x.a", from: scripted.endpoint))
    await scripted.stop()
    await grape.stop()
  }
}
