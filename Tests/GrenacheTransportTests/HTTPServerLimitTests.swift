import Foundation
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("HTTP server: how much strangers may send, P5, P6 and P12", .timeLimit(.minutes(2)))
struct HTTPServerLimitTests {
  @Test(
    "P5 P6 a request at the limit is answered, one past it is refused and the connection closed",
    arguments: [
      ("head", 431), ("fields", 431), ("line", 414), ("length", 413), ("chunked", 413),
    ])
  func limits(_ what: String, _ status: Int) async throws {
    try await withServer(configure: { configuration in
      configuration.http = HTTPLimits(
        headBytesMax: 2_000, fieldsMax: 10, lineBytesMax: 1_000, bodyBytesMax: 500)
    }) { server in
      for excess in [0, 1] {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(Self.request(what, excess: excess))
        let answer = await connection.receivedToEnd()
        #expect(answer.isEnded)
        let expected = excess == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 \(status) "
        #expect(answer.text.hasPrefix(expected), "\(what) + \(excess): \(answer.text.prefix(40))")
      }
    }
  }

  private static func request(_ what: String, excess: Int) -> String {
    let close = "Connection: close\r\n"
    switch what {
    case "head":
      let start = "GET / HTTP/1.1\r\nHost: x\r\n\(close)"
      let some = String(repeating: "a", count: 900)
      var text = start + "A: \(some)\r\nB: \(some)\r\nC: "
      text += String(repeating: "b", count: 2_000 - text.utf8.count - 4 + excess)
      return text + "\r\n\r\n"
    case "fields":
      let more = (0..<(8 + excess)).map { "F\($0): x\r\n" }.joined()
      return "GET / HTTP/1.1\r\nHost: x\r\n\(close)\(more)\r\n"
    case "line":
      let path = String(repeating: "p", count: 1_000 - "GET / HTTP/1.1\r\n".utf8.count + excess)
      return "GET /\(path) HTTP/1.1\r\nHost: x\r\n\(close)\r\n"
    case "length":
      let body = String(repeating: "b", count: 500 + excess)
      return "POST / HTTP/1.1\r\nHost: x\r\n\(close)Content-Length: \(500 + excess)\r\n\r\n\(body)"
    default:
      let body = String(repeating: "b", count: 250)
      let last = String(repeating: "b", count: 250 + excess)
      return "POST / HTTP/1.1\r\nHost: x\r\n\(close)Transfer-Encoding: chunked\r\n\r\n"
        + "fa\r\n\(body)\r\n\(String(250 + excess, radix: 16))\r\n\(last)\r\n0\r\n\r\n"
    }
  }

  @Test("P5 a connection that sends the longest head and no end of it costs less than 1 MiB")
  func headMemory() async throws {
    try await withServer { server in
      let head = "GET / HTTP/1.1\r\nHost: x\r\n"
      let line = "X: \(String(repeating: "x", count: 4_000))\r\n"
      let most = head + String(repeating: line, count: 4)
      #expect(most.utf8.count > 15 << 10 && most.utf8.count < 16 << 10)
      // The first pays for what all share.
      var held = [try await RawConnection(to: server.localAddress)]
      await held[0].send(most)
      let before = residentBytes()
      for _ in 0..<64 {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send(most)
        held.append(connection)
      }
      // An answer to who comes behind them says that what they sent has been taken in.
      let last = try await RawConnection(to: server.localAddress)
      await last.send("GET / HTTP/1.0\r\n\r\n")
      #expect(await last.receivedToEnd().text.hasPrefix("HTTP/1.1 200 "))
      // Both ends of each are in this process.
      #expect((residentBytes() - before) / 64 < 1 << 20)
      for connection in held {
        let open = await connection.receivedToEnd(within: .zero)
        #expect(!open.isEnded)
        await connection.close()
      }
    }
  }

  @Test("P6 a length over the limit is refused before the body is sent")
  func lengthAlone() async throws {
    try await withServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 413 "))
    }
  }

  @Test("connections up to the limit are served, one past it is closed")
  func connections() async throws {
    try await withServer(configure: { $0.connectionsMax = 3 }) { server in
      var held: [RawConnection] = []
      for _ in 0..<3 {
        let connection = try await RawConnection(to: server.localAddress)
        await connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        let answer = await connection.received { bytes, _ in !bytes.isEmpty }
        #expect(answer.text.hasPrefix("HTTP/1.1 200 "))
        held.append(connection)
      }
      let excess = try await RawConnection(to: server.localAddress)
      let refused = await excess.receivedToEnd()
      #expect(refused.isEnded && refused.text.isEmpty)
      await held[0].close()
      try await eventually { await server.connectionCount != 3 }
      let next = try await RawConnection(to: server.localAddress)
      await next.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      #expect(await next.receivedToEnd().text.hasPrefix("HTTP/1.1 200 "))
    }
  }

  @Test("what arrives in the same read as a refusal is not answered")
  func refusal() async throws {
    try await withServer { server in
      let connection = try await RawConnection(to: server.localAddress)
      await connection.send("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
      let answer = await connection.receivedToEnd()
      #expect(answer.text.hasPrefix("HTTP/1.1 400 "))
      #expect(answer.text.count(of: "HTTP/1.1 ") == 1)
    }
  }
}

/// The memory of this process that is really there.
private func residentBytes() -> Int {
  let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
  let fields = text.split(separator: " ")
  return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * sysconf(Int32(_SC_PAGESIZE))
}
