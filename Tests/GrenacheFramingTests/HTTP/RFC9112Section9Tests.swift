import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §9 Connection management")
struct ConnectionManagementTests {
  @Test(
    "persistence, §9.3",
    arguments: [
      ("1.1", "", true), ("1.0", "", false), ("1.1", "Connection: close\r\n", false),
      ("1.1", "Connection: CLOSE\r\n", false), ("1.1", "connection: x, close ,y\r\n", false),
      ("1.1", "Connection: x\r\nConnection: close\r\n", false),
      ("1.1", "Connection: closed\r\n", true), ("1.1", "Connection: x\r\nClose: close\r\n", true),
      ("1.0", "Connection: keep-alive\r\n", true), ("1.0", "Connection: Keep-Alive, x\r\n", true),
      ("1.0", "Connection: keep-alive, close\r\n", false),
      ("1.1", "Connection: keep-alive, close\r\n", false), ("1.0", "Keep-Alive: 5\r\n", false),
      ("1.1", "Connection:\r\n", true), ("1.1", "Connection: ,,\r\n", true),
      ("1.1", "Connection: ,,close\r\n", false),
    ])
  func persistence(_ version: String, _ fields: String, _ keeps: Bool) {
    let text = "GET / HTTP/\(version)\r\nHost: a\r\n\(fields)\r\n"
    #expect(requests(text) == "GET / \(keeps ? "keep" : "close") .")
    let response = "HTTP/\(version) 200 OK\r\nContent-Length: 0\r\n\(fields)\r\n"
    #expect(responses(response) == "200 \(keeps ? "keep" : "close") .")
  }

  @Test("pipelined requests come in order, each with its own body, §9.3.2")
  func pipelining() {
    let text =
      "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
      + "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
      + "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n"
      + "GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    #expect(
      requests(text) == "POST /1 keep =ab . GET /2 keep . POST /3 keep =c . GET /4 close .")
  }

  @Test("between a message and the next cycle nothing is parsed")
  func paused() throws {
    let input = Array("GET / HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n".utf8)
    var parser = HTTPRequestParser(limits: HTTPLimits())
    var offset = 0
    var steps: [HTTPStep] = []
    for _ in 0..<4 { steps.append(try parser.next(input.span, from: &offset)) }
    #expect(steps == [.head, .end, .paused, .paused])
    #expect(offset == 18)
    parser.startNextCycle()
    let step = try parser.next(input.span, from: &offset)
    #expect(step == .head)
  }
}

@Suite("RFC 9110 §7.8 Upgrade, §10.1.1 Expect, §15.2 Interim responses")
struct UpgradeExpectTests {
  private func get(_ fields: String, version: String = "1.1") -> String {
    requests(
      "GET / HTTP/\(version)\r\nHost: a\r\nConnection: upgrade, keep-alive\r\n\(fields)\r\n")
  }

  @Test("an upgrade is asked for by two fields, in HTTP/1.1, without a body")
  func upgrade() {
    #expect(get("Upgrade: websocket\r\n") == "GET / keep upgrade .")
    #expect(get("Upgrade: h2c, WebSocket\r\n") == "GET / keep upgrade .")
    #expect(get("Upgrade: h2c\r\n") == "GET / keep .")
    #expect(get("") == "GET / keep .")
    #expect(get("Upgrade: websocket\r\n", version: "1.0") == "GET / keep .")
    #expect(get("Upgrade: websocket\r\nContent-Length: 1\r\n") == "GET / keep")
    let alone = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"
    #expect(requests(alone) == "GET / keep .")
  }

  @Test("a switch that was not asked for is an error")
  func unaskedSwitch() {
    let text = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    #expect(responses(text, mayUpgrade: true) == "^")
    #expect(responses(text) == "!400")
  }

  @Test(
    "100-continue is the one expectation, and HTTP/1.0 has none",
    arguments: [
      ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", "POST / keep continue"),
      ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", "POST / keep continue"),
      ("1.1", "Expect: 100-continue\r\n", "POST / keep ."),
      ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", "POST / keep ."),
      ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", "POST / close"),
      ("1.1", "Expect: 200-ok\r\n", "!417"), ("1.1", "Expect:\r\n", "!417"),
      ("1.1", "Expect: 100-continue, x\r\n", "!417"),
    ])
  func expect(_ version: String, _ fields: String, _ expected: String) {
    #expect(requests("POST / HTTP/\(version)\r\nHost: a\r\n\(fields)\r\n") == expected)
  }

  @Test("interim responses precede the final one")
  func interim() {
    let final = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + final
    #expect(responses(text) == "1xx 1xx 200 keep .")
  }
}
