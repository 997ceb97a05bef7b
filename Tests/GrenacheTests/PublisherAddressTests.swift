import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("A publisher with several addresses", .timeLimit(.minutes(1)))
struct PublisherAddressTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func news(_ loops: Int = 1) async throws -> RunningPub {
    try await RunningPub(
      "news", PeerPubConfiguration(port: 0, tls: try authority.worker("news")),
      group: try EventLoopGroup(count: loops))
  }

  @Test("each message comes once, whichever addresses grapes tell", arguments: [1, 2])
  func once(_ loops: Int) async throws {
    let news = try await news(loops)
    let relays = try [TCPRelay(to: news.endpoint), TCPRelay(to: news.endpoint)]
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint] + relays.map(\.endpoint))
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let running = Task { await sub.run() }
    var heard = sub.makeAsyncIterator()
    try await eventually { await news.pub.subscriberCount > 0 }
    // Long enough for all addresses to be found.
    let end = ContinuousClock.now + .seconds(2)
    var number = 0
    while ContinuousClock.now < end {
      number += 1
      try await news.pub.publish(PubMessage("\(number)"))
      let event = await heard.next()
      #expect(event?.summary == "\(number)")
      guard event?.summary == "\(number)" else { break }
    }
    #expect(await news.pub.subscriberCount == 1)
    #expect(await sub.publishers.count == 1)
    running.cancel()
    await running.value
    for relay in relays { relay.stop() }
    await news.stop()
    await grape.stop()
  }

  @Test("when the address dies another one goes on from there, with nothing lost or doubled")
  func takeover() async throws {
    let news = try await news()
    let relays = try [TCPRelay(to: news.endpoint), TCPRelay(to: news.endpoint)]
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([relays[0].endpoint])
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let heard = try await events(of: sub, 30) {
      try await news.subscribers(1)
      for number in 1...10 { try await news.pub.publish(PubMessage("\(number)")) }
      // The other grape knows another address.
      grape.answer([relays[1].endpoint])
      let lookups = grape.lookups
      try await eventually { grape.lookups >= lookups + 10 }
      for number in 11...20 { try await news.pub.publish(PubMessage("\(number)")) }
      relays[0].stop()
      for number in 21...30 { try await news.pub.publish(PubMessage("\(number)")) }
    }
    #expect(heard.map(\.summary) == (1...30).map { "\($0)" })
    relays[1].stop()
    await news.stop()
    await grape.stop()
  }

  @Test("connections that break off again and again lose and double nothing")
  func broken() async throws {
    let news = try await news()
    let relays = try [TCPRelay(to: news.endpoint), TCPRelay(to: news.endpoint)]
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([news.endpoint] + relays.map(\.endpoint))
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let heard = try await events(of: sub, 200) {
      try await eventually { await news.pub.subscriberCount > 0 }
      for number in 1...200 {
        try await news.pub.publish(PubMessage("\(number)"))
        if number.isMultiple(of: 20) {
          await news.pub.abortSubscribers()
          try await eventually { await news.pub.subscriberCount > 0 }
        }
      }
    }
    #expect(heard.map(\.summary) == (1...200).map { "\($0)" })
    for relay in relays { relay.stop() }
    await news.stop()
    await grape.stop()
  }

  @Test("a publisher that starts again is followed once, and what is missing is told once")
  func restart() async throws {
    let first = try await news()
    let relays = try [TCPRelay(to: first.endpoint), TCPRelay(to: first.endpoint)]
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint] + relays.map(\.endpoint))
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let running = Task { await sub.run() }
    var iterator = sub.makeAsyncIterator()
    try await eventually { await first.pub.subscriberCount > 0 }
    try await first.pub.publish(PubMessage("first"))
    guard case .message(let before, _)? = await iterator.next() else { throw CancellationError() }
    // All three addresses are known to be one publisher's.
    let lookups = grape.lookups
    try await eventually { grape.lookups > lookups + 10 }
    await first.vanish()
    let second = try await RunningPub(
      "news", PeerPubConfiguration(port: first.endpoint.port, tls: try authority.worker("news")))
    var number: UInt64 = 0
    var told: [UInt64] = []
    var unknown: [String?] = []
    let end = ContinuousClock.now + .seconds(3)
    while ContinuousClock.now < end {
      number += 1
      try await second.pub.publish(PubMessage("second"))
      while told.last != number {
        switch await iterator.next() {
        case .message(let message, _):
          #expect(message.run != before.run)
          told.append(message.number ?? 0)
        case .gap(let numbers?, let run, _):
          #expect(run != before.run)
          told += Array(numbers)
        case .gap(nil, let run, _): unknown.append(run)
        case nil: throw CancellationError()
        }
      }
    }
    #expect(told == Array(1...number))
    #expect(unknown == [before.run])
    try await eventually { await second.pub.subscriberCount == 1 }
    running.cancel()
    await running.value
    for relay in relays { relay.stop() }
    await second.stop()
    await grape.stop()
  }

  @Test("P37 who is there when following begins is connected to at once, who comes later by chance")
  func firstConnect() async throws {
    let (first, second) = (try await news(), try await news())
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint])
    let sub = try await subscriber(grape.endpoint, try authority.client()) {
      $0.firstConnectDelayMax = .seconds(36_000)
    }
    let running = Task { await sub.run() }
    try await eventually { await first.pub.subscriberCount == 1 }
    grape.answer([first.endpoint, second.endpoint])
    let lookups = grape.lookups
    try await eventually { grape.lookups > lookups + 10 }
    #expect(await second.pub.subscriberCount == 0)
    running.cancel()
    await running.value
    await first.stop()
    await second.stop()
    await grape.stop()
  }
}
