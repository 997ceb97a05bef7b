import Foundation
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Publishers that come back", .timeLimit(.minutes(1)))
struct PublisherReturnTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func secure(port: UInt16 = 0) throws -> PeerPubConfiguration {
    PeerPubConfiguration(port: port, tls: try authority.worker("news"))
  }

  @Test("what one says that was given up before it is found again is named")
  func givenUp() async throws {
    let first = try await RunningPub("news", try secure()) { $0.drainTimeout = .seconds(20) }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint])
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let again = try secure(port: first.endpoint.port)
    let heard = try await events(of: sub, 3) {
      try await first.subscribers(1)
      try await first.pub.publish(PubMessage("before"))
      grape.answer([])
      await first.stop()
      // Long after the second connection is refused.
      let lookups = grape.lookups
      try await eventually { grape.lookups >= lookups + 20 }
      let second = try await RunningPub("news", again)
      for _ in 1...100 { try await second.pub.publish(PubMessage("nobody is there")) }
      grape.answer([second.endpoint])
      try await second.subscribers(1)
      try await second.pub.publish(PubMessage("after"))
      return second
    }
    #expect(heard.map(\.summary) == ["before", "1...100", "after"])
    await grape.stop()
  }

  @Test("the same publisher run again goes on where it was")
  func runAgain() async throws {
    var configuration = try secure()
    configuration.host = "127.0.0.1"
    let pub = try await PeerPub("news", configuration, logger: quietLogger)
    let grape = try await FixedGrape(tls: try authority.host())
    @Sendable func run(_ body: @escaping @Sendable () async throws -> Void) async throws {
      try await withThrowingTaskGroup { group in
        let (addresses, listening) = AsyncStream.makeStream(of: SocketAddress.self)
        group.addTask { try await pub.run { listening.yield($0) } }
        for await address in addresses {
          grape.answer([Endpoint(address)])
          break
        }
        try await body()
        grape.answer([])
        group.cancelAll()
      }
    }
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let heard = try await events(of: sub, 3) {
      try await run {
        try await eventually { await pub.subscriberCount == 1 }
        try await pub.publish(PubMessage("one"))
      }
      let lookups = grape.lookups
      try await eventually { grape.lookups >= lookups + 20 }
      try await run {
        try await pub.publish(PubMessage("two"))
        try await eventually { await pub.subscriberCount == 1 }
        try await pub.publish(PubMessage("three"))
        await untilCancelled()
      }
    }
    // At another port, what it said meanwhile is asked for.
    #expect(heard.map(\.summary) == ["one", "two", "three"])
    await grape.stop()
  }

  @Test(
    "one that numbers its messages no more, or does so now, leaves a gap", arguments: [true, false])
  func changed(_ countsFirst: Bool) async throws {
    let grape = try await FixedGrape(tls: try authority.host())
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let tls = try authority.worker("news")
    let heard = try await events(of: sub, 3) { () -> any Sendable in
      func plain(_ text: String, _ port: UInt16) async throws -> ScriptedPublisher {
        let made = try await ScriptedPublisher(tls: tls, port: port) { connection, loop in
          connection.send(.text, Array(text.utf8).span, on: loop)
        }
        grape.answer([made.endpoint])
        try await eventually { await sub.publishers == [made.endpoint] }
        return made
      }
      func counted(_ text: String, _ port: UInt16) async throws -> RunningPub {
        let made = try await RunningPub("news", PeerPubConfiguration(port: port, tls: tls))
        grape.answer([made.endpoint])
        try await made.subscribers(1)
        try await made.pub.publish(PubMessage(text))
        return made
      }
      if countsFirst {
        let first = try await counted("one", 0)
        await first.vanish()
        return try await plain("two", first.endpoint.port)
      } else {
        let first = try await plain("one", 0)
        await first.stop()
        return try await counted("two", first.endpoint.port)
      }
    }
    #expect(heard.map(\.summary) == ["one", "gap", "two"])
    await grape.stop()
  }

  @Test("one that closes right after the upgrade is tried again ever later")
  func closesAtOnce() async throws {
    let closing = try await ScriptedPublisher(tls: try authority.worker("news")) {
      $0.close(.policyViolation, on: $1)
    }
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([closing.endpoint])
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let running = Task { await sub.run() }
    try await eventually { closing.callers.count >= 1 }
    let start = ContinuousClock.now
    try await eventually { closing.callers.count >= 8 }
    // From 20 ms on, doubled six times, and half of each by chance.
    #expect(ContinuousClock.now - start > .milliseconds(1_200))
    running.cancel()
    await running.value
    await closing.stop()
    await grape.stop()
  }
}
