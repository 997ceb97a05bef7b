import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import Testing

@testable import GrenacheTransport

@Suite("P6 Bodies must come on: the rate, on connections", .timeLimit(.minutes(2)))
struct ReceiptRateConnectionTests {
  private static let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n"

  /// Runs a server that wants 10,000 bytes a second of a body after half a second.
  private func withImpatientServer(_ body: (HTTPServer) async throws -> Void) async throws {
    try await withServer(
      configure: { configuration in
        configuration.bodyGrace = .milliseconds(500)
        configuration.bodyBytesPerSecondMin = 10_000
      }, respond: { request in HTTPServerResponse(.ok, body: Array("\(request.body.count)".utf8)) },
      body)
  }

  @Test("a body that comes, but slower than the rate, is answered with 408")
  func tooSlow() async throws {
    try await withImpatientServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send(Self.head)
      let start = ContinuousClock.now
      var sent = 0
      var answer = await connection.receivedToEnd(within: .zero)
      // 10 bytes in 20 ms or more: never more than a twentieth of what is asked for.
      while !answer.isEnded, ContinuousClock.now - start < .seconds(20) {
        await connection.send("0123456789")
        sent += 10
        answer = await connection.receivedToEnd(within: .milliseconds(20))
      }
      #expect(answer.isEnded)
      #expect(answer.text.hasPrefix("HTTP/1.1 408 "))
      #expect(sent > 10, "the body did come on")
    }
  }

  @Test("a body that pauses, but comes faster than the rate on the whole, is taken")
  func fastEnough() async throws {
    try await withImpatientServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      // Enough for 49 seconds; the rest comes over two looks at it.
      await connection.send(Self.head + String(repeating: "b", count: 499_000))
      for _ in 0..<10 {
        let early = await connection.receivedToEnd(within: .milliseconds(200))
        #expect(!early.isEnded)
        await connection.send(String(repeating: "b", count: 100))
      }
      let answer = await connection.received { bytes, _ in bytes.suffix(6) == Array("500000".utf8) }
      #expect(answer.text.hasPrefix("HTTP/1.1 200 "))
    }
  }
}
