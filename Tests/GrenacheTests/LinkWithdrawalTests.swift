import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("P27 Withdrawing", .timeLimit(.minutes(1)))
struct LinkWithdrawalTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func link(_ grapes: [Endpoint]) async throws -> Link {
    try await Link(
      LinkConfiguration(grapes: grapes, tls: try authority.client()), logger: quietLogger)
  }

  @Test("every grape is told, though the one that is asked first swallows everything")
  func swallowed() async throws {
    let paths = Mutex<[String]>([])
    try await withHostileServer(.saysNothing) { silent in
      try await FakeGrape.with(
        try authority.host(),
        answer: { path, _ in
          paths.withLock { $0.append(path) }
          return (200, "1")
        },
        { grape, _ in
          let link = try await link([silent, grape])
          #expect(try await link.withdraw("rpc_test", port: 4_001, within: .seconds(2)))
          #expect(paths.withLock { $0 } == ["/withdraw"])
          await link.withdrawQuietly(["rpc_test"], port: 4_001)
          #expect(paths.withLock { $0 } == ["/withdraw", "/withdraw"])
          await link.close()
        })
    }
  }

  @Test("a scope whose first announcement fails withdraws it: a grape may have heard it")
  func scopeWithoutAnswer() async throws {
    let paths = Mutex<[String]>([])
    let answer: FakeGrape.Answer = { path, _ in
      paths.withLock { $0.append(path) }
      return path == "/announce" ? (500, "no") : (200, "1")
    }
    try await FakeGrape.with(try authority.host(), answer: answer) { grape, _ in
      let link = try await link([grape])
      await #expect(throws: GrenacheError.self) {
        try await link.announcing("rpc_test", port: 4_001) { Issue.record("it ran") }
      }
      await link.close()
    }
    #expect(paths.withLock { $0 } == ["/announce", "/withdraw"])
  }

  @Test(
    "it is withdrawn where one understands, and an error where nobody answers",
    arguments: [["1", "1"], ["\"ERR_REQ_NOTFOUND\"", "1"], ["\"ERR_REQ_NOTFOUND\""], []])
  func outcomes(_ answers: [String]) async throws {
    var grapes = [Endpoint(host: "127.0.0.1", port: 1)]
    let asked = Mutex(0)
    var servers: [HTTPServer] = []
    for answer in answers {
      let server = try await HTTPServer(
        on: .loopback(port: 0), context: try TLSContext(try authority.host()),
        configuration: HTTPServerConfiguration(),
        handlers: HTTPServerHandlers(respond: { _ in
          asked.withLock { $0 += 1 }
          return HTTPServerResponse(.ok, body: Array(answer.utf8))
        }),
        group: .shared(), logger: quietLogger)
      servers.append(server)
      grapes.append(Endpoint(server.localAddress))
    }
    let link = try await link(grapes)
    do {
      #expect(try await link.withdraw("rpc_test", port: 4_001) == answers.contains("1"))
      #expect(!answers.isEmpty)
    } catch {
      #expect(answers.isEmpty && error.code == .grapeUnreachable)
    }
    #expect(asked.withLock { $0 } == answers.count)
    await link.close()
    for server in servers { await server.shutDown(within: .zero) }
  }
}
