import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("What a server says of keeping connections (RFC 2068 §19.7.1.1)", .timeLimit(.minutes(2)))
struct HTTPClientKeepAliveTests {
  @Test(
    "the field",
    arguments: [
      (nil, nil, nil), ("timeout=5", 5, nil), ("timeout=5, max=100", 5, 100),
      (" Max = 3 ,TIMEOUT= \"7\" ", 7, 3), ("timeout=-1", nil, nil), ("timeout=", nil, nil),
      ("timeout=5s", nil, nil), ("timeout=9999999999999999999999", nil, nil), (",,=", nil, nil),
      ("300", nil, nil), ("timeout=60, timeout=1, timeout=9", 1, nil),
    ] as [(String?, Int?, Int?)])
  func parse(_ value: String?, _ seconds: Int?, _ requests: Int?) {
    let field = HTTPClientKeepAlive(value)
    #expect(field.timeout == seconds.map { .seconds($0) })
    #expect(field.requestsMax == requests)
  }

  @Test(
    "idle connections are given up before the server does",
    arguments: [
      (nil, 30_000), ("timeout=5", 4_000), ("timeout=1", 500), ("timeout=60", 30_000),
      ("timeout=31", 30_000), ("timeout=2", 1_000),
    ] as [(String?, Int)])
  func idle(_ value: String?, _ milliseconds: Int) {
    let field = HTTPClientKeepAlive(value)
    #expect(field.idleTimeout(atMost: .seconds(30)) == .milliseconds(milliseconds))
    #expect(field.isUsable)
  }

  @Test("a server that takes no more is asked no more", arguments: ["timeout=0", "max=0"])
  func none(_ value: String) {
    #expect(!HTTPClientKeepAlive(value).isUsable)
  }

  @Test(
    "a connection that the server keeps for a second is closed by the client, and not used again")
  func closes() async throws {
    let head = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok"
    let server = try await ScriptedServer([.says(head), .says(head), .says(head)])
    let destination = Destination(Endpoint(server.address), verification: .name("127.0.0.1"))
    try await Self.ask(destination, on: EventLoopGroup.shared().next())
    let counts = await server.counts
    #expect(counts.connections == 2)
    #expect(counts.requests == 3)
    await server.stop()
  }

  /// Two requests at once one after the other, and one after two seconds.
  private static func ask(
    _ destination: Destination, on loop: isolated EventLoop
  ) async throws {
    let client = HTTPClient(context: nil)
    for number in 0..<3 {
      if number == 2 {
        let pause = LoopPromise<Void>()
        _ = await pause.wait(until: .now() + .seconds(2), on: loop)
      }
      _ = try await client.send(
        HTTPClientRequest(.get, "/"), to: destination, by: .now() + .seconds(10),
        isRetryable: false, on: loop)
    }
    client.close(on: loop)
  }
}
