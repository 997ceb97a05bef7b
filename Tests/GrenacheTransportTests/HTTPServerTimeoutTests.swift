import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("HTTP server: how long strangers may take, P4 and P12", .timeLimit(.minutes(2)))
struct HTTPServerTimeoutTests {
  @Test(
    "P4 a head or body that does not come is answered with 408",
    arguments: [
      "GET / HTTP/1.1\r\nHost: x\r\n", "G",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    ])
  func slow(_ part: String) async throws {
    try await withServer(configure: { configuration in
      configuration.headTimeout = .seconds(1)
      configuration.bodyGrace = .seconds(1)
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(part)
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.hasPrefix("HTTP/1.1 408 "))
    }
  }

  @Test("P4 the deadline of a head is absolute: a byte now and then does not move it")
  func trickle() async throws {
    try await withServer(configure: { $0.headTimeout = .milliseconds(100) }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let start = ContinuousClock.now
      var isEnded = false
      while !isEnded, ContinuousClock.now - start < .seconds(10) {
        await connection.send("G")
        isEnded = await connection.receivedToEnd(within: .milliseconds(10)).isEnded
      }
      #expect(isEnded)
    }
  }

  @Test("a connection on which nothing is asked is closed without a word")
  func idle() async throws {
    try await withServer(configure: { configuration in
      configuration.headTimeout = .milliseconds(50)
      configuration.idleTimeout = .milliseconds(50)
    }) { server in
      let connection = try await RawConnection(to: server.localAddress)
      let answer = await connection.receivedToEnd()
      #expect(answer.isEnded)
      #expect(answer.text.isEmpty)
    }
  }

  @Test("a handler that does not answer is answered for with 503")
  func handler() async throws {
    try await withServer(
      configure: { $0.handlerTimeout = .milliseconds(50) },
      respond: { _ in
        await untilCancelled()
        return HTTPServerResponse(.ok)
      }
    ) { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 503 "))
    }
  }
}
