import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("Several grapes", .timeLimit(.minutes(1)))
struct LinkGrapeTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func link(_ grapes: [Endpoint]) async throws -> Link {
    try await Link(
      LinkConfiguration(grapes: grapes, tls: try authority.client()), logger: quietLogger)
  }

  @Test(
    "a grape that cannot announce is passed over",
    arguments: [#""All queries failed""#, #""No nodes to query""#])
  func passedOver(_ answer: String) async throws {
    let tls = try authority.host()
    try await FakeGrape.with(tls, answer: { _, _ in (200, answer) }) { lonely, _ in
      try await FakeGrape.with(tls, answer: { _, _ in (200, "2") }) { grape, asked in
        let link = try await link([lonely, grape])
        #expect(try await link.announce("rpc_test", port: 5) == 2)
        #expect(asked() == 1)
      }
    }
  }

  @Test("0 is the answer when no grape knows another one; a grape's failure is one when all fail")
  func nobody() async throws {
    let tls = try authority.host()
    let nobody = Endpoint(host: "127.0.0.1", port: 1)
    try await FakeGrape.with(tls, answer: { _, _ in (200, #""No nodes to query""#) }) {
      lonely, asked in
      let twice = try await link([lonely, lonely])
      #expect(try await twice.announce("rpc_test", port: 5) == 0)
      #expect(asked() == 2)
      // Ours keeps what it is told: nobody else has to be there.
      let alone = try await link([lonely, nobody])
      #expect(try await alone.announce("rpc_test", port: 5) == 0)
      try await FakeGrape.with(tls, answer: { _, _ in (200, #""All queries failed""#) }) {
        failing, _ in
        let mixed = try await link([lonely, failing])
        #expect(try await mixed.announce("rpc_test", port: 5) == 0)
        let broken = try await link([failing, failing])
        let error = await #expect(throws: GrenacheError.self) {
          try await broken.announce("rpc_test", port: 5)
        }
        #expect(error?.code == .grapeRefused)
      }
    }
  }

  @Test("behind grapes that say nothing until the time is over one is asked first the next time")
  func silentInFront() async throws {
    let answer: FakeGrape.Answer = { path, _ in
      (200, path == "/lookup" ? #"["10.0.0.1:1"]"# : "2")
    }
    try await withHostileServer(.saysNothing) { silent in
      try await FakeGrape.with(try authority.host(), answer: answer) { grape, asked in
        let (announcing, looking) = (
          try await link([silent, silent, grape]), try await link([silent, silent, grape])
        )
        for _ in 0..<2 {
          let announced = await grenacheError {
            _ = try await announcing.announce("rpc_test", port: 5, within: .milliseconds(200))
          }
          let looked = await grenacheError {
            for try await _ in looking.workers(of: "rpc_test", within: .milliseconds(200)) {}
          }
          #expect(announced?.code == .deadlineExceeded && looked?.code == .deadlineExceeded)
        }
        #expect(asked() == 0)
        #expect(try await announcing.announce("rpc_test", port: 5, within: .seconds(5)) == 2)
        var found = 0
        for try await _ in looking.workers(of: "rpc_test", within: .seconds(5)) { found += 1 }
        #expect(found == 1)
      }
    }
  }

  @Test("a link that is closed closes what watches over it, too")
  func close() async throws {
    let grape = try await RunningGrape(tls: try authority.host())
    let sub = try await subscriber(grape.endpoint, try authority.client())
    let running = Task { await sub.run() }
    try await eventually { await sub.isWatching }
    await sub.link.close()
    try await eventually("the end of the watch") { await !sub.isWatching }
    running.cancel()
    await running.value
    await grape.stop()
  }
}
