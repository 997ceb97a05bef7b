import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("HTTP server: shutting down", .timeLimit(.minutes(2)))
struct HTTPServerDrainTests {
  @Test("what is being answered finishes, what is idle is closed, nothing new is accepted")
  func drain() async throws {
    let (asked, continuation) = AsyncStream.makeStream(of: Void.self)
    let (gate, opening) = AsyncStream.makeStream(of: Void.self)
    try await withServer(
      respond: { request in
        if request.target == "/slow" {
          continuation.yield()
          for await _ in gate {}
        }
        return HTTPServerResponse(.ok, body: Array("done".utf8))
      }
    ) { server in
      let idle = try await RawConnection(to: server.localAddress)
      await idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      _ = await idle.received { bytes, _ in bytes.suffix(4) == Array("done".utf8) }
      let busy = try await RawConnection(to: server.localAddress)
      await busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
      for await _ in asked { break }
      async let end: Void = server.shutDown(within: .seconds(10))
      #expect(await idle.receivedToEnd().isEnded)
      opening.finish()
      let answer = await busy.receivedToEnd()
      #expect(answer.text.hasSuffix("done"))
      #expect(answer.text.lowercased().contains("connection: close"))
      await end
      #expect(await server.connectionCount == 0)
      await #expect(throws: SystemCallError.self) {
        _ = try await RawConnection(to: server.localAddress)
      }
    }
  }

  @Test(
    "drainIdleTimeout: an idle connection is kept so long for what may be on its way, no longer")
  func idle() async throws {
    let time = Duration.milliseconds(500)
    try await withServer(configure: { $0.drainIdleTimeout = time }) { server in
      let idle = try await RawConnection(to: server.localAddress)
      await idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      _ = await idle.received { bytes, _ in !bytes.isEmpty }
      let start = ContinuousClock.now
      async let end: Void = server.shutDown(within: .seconds(50))
      #expect(await idle.receivedToEnd(within: .seconds(40)).isEnded)
      let took = ContinuousClock.now - start
      #expect(took >= time - .milliseconds(2) && took < .seconds(8))
      await end
    }
  }

  @Test("after the grace, what is left is broken off")
  func grace() async throws {
    let (begun, gate) = (Tally(), Tally())
    try await withServer(respond: { _ in
      await begun.add()
      await gate.reachesThoughCancelled(1)
      return HTTPServerResponse(.ok)
    }) { server in
      let busy = try await RawConnection(to: server.localAddress)
      await busy.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      await begun.reaches(1)
      await server.shutDown(within: .milliseconds(20))
      let answer = await busy.receivedToEnd()
      #expect(answer.isEnded && answer.text.isEmpty)
      await gate.add()
    }
  }
}
