import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

/// A grape that knows one announcer, and deals with each watch as a test says.
private final class WatchedGrape: WebSocketHandler {
  enum Manner: Sendable { case closes, refuses, tells, tellsThenRefuses }

  struct Asked: Sendable {
    var lookups = 0
    var watches = 0
  }
  private let manner: Manner

  private init(_ manner: Manner) { self.manner = manner }

  static func with<Result>(
    _ tls: TLSConfiguration, _ manners: [Manner],
    _ body: (Endpoint, _ asked: @escaping @Sendable () -> Asked) async throws -> Result
  ) async throws -> Result {
    let asked = Mutex(Asked())
    let server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(tls),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(
        respond: { _ in
          asked.withLock { $0.lookups += 1 }
          return HTTPServerResponse(.ok, body: Array("[]".utf8))
        },
        openWebSocket: { _, _ in
          let count = asked.withLock { asked in
            asked.watches += 1
            return asked.watches
          }
          return WatchedGrape(manners[min(count, manners.count) - 1])
        }),
      group: EventLoopGroup(count: 1), logger: quietLogger)
    do {
      let result = try await body(Endpoint(server.localAddress)) { asked.withLock { $0 } }
      await server.shutDown(within: .zero)
      return result
    } catch {
      await server.shutDown(within: .zero)
      throw error
    }
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    func say(_ text: String) {
      connection.send(.text, Array(text.utf8).span, on: loop)
    }
    let list = #"{"key":"news","peers":[]}"#
    let refusal = #"{"error":"ERR_GRAPE_NOT_PERMITTED"}"#
    switch manner {
    case .closes: connection.close(.goingAway, on: loop)
    case .refuses: say(refusal)
    case .tells: say(list)
    case .tellsThenRefuses:
      say(list)
      say(refusal)
    }
  }
}

@Suite("P27 Watches that break off", .timeLimit(.minutes(1)))
struct KeyWatchTests {
  private func following<Result: Sendable>(
    _ grape: Endpoint, _ authority: TestAuthority, _ body: (PeerSub) async throws -> Result
  ) async throws -> Result {
    let sub = try await subscriber(grape, try authority.client()) {
      $0.lookupInterval = .milliseconds(50)
    }
    let running = Task { await sub.run() }
    do {
      let result = try await body(sub)
      running.cancel()
      await running.value
      return result
    } catch {
      running.cancel()
      throw error
    }
  }

  @Test("a grape that goes before it has told anything is asked for a watch again at once")
  func goneEarly() async throws {
    let authority = try TestAuthority()
    try await WatchedGrape.with(try authority.host(), [.closes, .closes, .tells]) {
      grape, asked in
      try await following(grape, authority) { sub in
        // Within a minute, which is how often one is asked that offers none.
        try await eventually { await sub.isWatching }
        #expect(asked().watches == 3)
      }
    }
  }

  @Test("a watch that the grape ends with an error is none: the key is looked up again")
  func refusedLater() async throws {
    let authority = try TestAuthority()
    try await WatchedGrape.with(try authority.host(), [.tellsThenRefuses, .tells]) {
      grape, asked in
      try await following(grape, authority) { sub in
        try await eventually { asked().lookups >= 4 }
        #expect(asked().watches == 1)
        #expect(await !sub.isWatching)
      }
    }
  }
}
