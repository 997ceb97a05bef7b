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
