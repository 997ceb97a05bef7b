import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §3 Request line")
struct RequestLineTests {
  @Test(
    "the four forms of a target",
    arguments: [
      "GET / HTTP/1.1", "GET /a/b?c=d&e=%20 HTTP/1.1", "GET http://a/b HTTP/1.1",
      "OPTIONS * HTTP/1.1", "VERSION-CONTROL /x HTTP/1.0", "GET /%c3%a4?%20 HTTP/1.1",
    ])
  func accepted(_ line: String) {
    #expect(status(request(line: line)) == nil)
  }

  @Test(
    "what is no request line",
    arguments: [
      ("GET  / HTTP/1.1", 400), ("GET / HTTP/1.1 ", 400), (" GET / HTTP/1.1", 400),
      ("GET /a b HTTP/1.1", 400), ("GET / HTTP/2.0", 505), ("GET / HTTP/1.2", 505),
      ("GET / http/1.1", 400), ("GET /", 400), ("GET * HTTP/1.1", 400), ("G@T / HTTP/1.1", 400),
      ("GET a HTTP/1.1", 400), ("GET /\u{7f} HTTP/1.1", 400), ("GET /ä HTTP/1.1", 400),
      ("GET / HTTP/1.1x", 400), ("CONNECT a:80 HTTP/1.1", 501), ("TRACE / HTTP/1.1", 501),
      ("get / HTTP/1.1", 501),
      ("GET1 / HTTP/1.1", 501), ("GET /% HTTP/1.1", 400), ("GET /%a HTTP/1.1", 400),
      ("GET /%zz HTTP/1.1", 400), ("GET /%00 HTTP/1.1", 400), ("GET /#a HTTP/1.1", 400),
      ("GET ftp://a/ HTTP/1.1", 400), ("GET http:/a HTTP/1.1", 400), ("OPTIONS *a HTTP/1.1", 400),
      ("GET http:///x HTTP/1.1", 400), ("GET http://b@a/ HTTP/1.1", 400),
      ("GET http://a:x/ HTTP/1.1", 400), ("GET http://b/ HTTP/1.1", 400),
      ("GET http://a:81/ HTTP/1.1", 400), ("GET https://a:80/ HTTP/1.1", 400),
      ("GET http://[::1/ HTTP/1.1", 400), ("GET http://a:1234567/ HTTP/1.1", 400),
      ("GET /\" HTTP/1.1", 400),
    ])
  func refused(_ line: String, _ expected: Int) {
    #expect(status(request(line: line)) == expected)
  }

  @Test(
    "the path of an absolute target is what a handler sees, §3.2.2",
    arguments: [
      ("GET http://a/b?c HTTP/1.1", "/b?c"), ("GET HTTP://A HTTP/1.1", "/"),
      ("GET http://a?b HTTP/1.1", "/?b"), ("GET http://a:80/ HTTP/1.1", "/"),
      ("GET https://a:443/x HTTP/1.1", "/x"), ("OPTIONS http://a HTTP/1.1", "*"),
      ("GET /x//y HTTP/1.1", "/x//y"), ("OPTIONS * HTTP/1.1", "*"),
    ])
  func absolute(_ line: String, _ expected: String) throws {
    let input = request(line: line)
    var parser = HTTPRequestParser(limits: HTTPLimits())
    var offset = 0
    let step = try parser.next(input.span, from: &offset)
    #expect(step == .head)
    let target = parser.head.originTarget(in: input.span)
    #expect(target == expected)
  }

  @Test("a method beyond all methods is not implemented, §3.1")
  func longMethod() {
    let most = String(repeating: "A", count: 32)
    #expect(status(request(line: "\(most) / HTTP/1.1")) == nil)
    #expect(status(request(line: "A\(most) / HTTP/1.1")) == 501)
  }

  @Test("one empty line before a request is forgiven, §2.2")
  func emptyLine() {
    #expect(status("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n") == nil)
  }

  @Test("Host comes exactly once in HTTP/1.1, §3.2")
  func host() {
    #expect(requests("GET / HTTP/1.1\r\n\r\n") == "!400")
    #expect(requests("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n") == "!400")
    #expect(requests("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n") == "!400")
    #expect(requests("GET / HTTP/1.0\r\n\r\n") == "GET / close .")
    #expect(requests("GET http://a/ HTTP/1.1\r\n\r\n") == "!400")
  }
}
