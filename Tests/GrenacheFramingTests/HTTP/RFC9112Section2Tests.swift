import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §2 Message")
struct MessageTests {
  @Test(
    "one empty line before a request is forgiven, and no more, §2.2",
    arguments: [
      ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / keep ."),
      ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "!400"), ("\nGET / HTTP/1.1\r\n", "!400"),
      ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "!400"), (" \r\nGET / HTTP/1.0\r\n\r\n", "!400"),
      ("GET / HTTP/1.0\r\n\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", "GET / close . GET /2 close ."),
      ("GET / HTTP/1.0\r\n\r\n\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", "GET / close . !400"),
    ])
  func emptyLines(_ text: String, _ expected: String) {
    #expect(requests(text) == expected)
  }

  @Test(
    "CR LF ends lines, and neither half does, §2.2",
    arguments: [
      "GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n",
      "GET / HTTP/1.1\rHost: a\r\r", "GET / HTTP/1.1\r\nHost: a\r\n\n",
      "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    ])
  func lineEnds(_ text: String) {
    #expect(["!400", ""].contains(requests(text)))
    #expect(!requests(text + "\r\n\r\n").contains(" keep"))
  }

  @Test(
    "versions, §2.3",
    arguments: [
      ("HTTP/1.1", "GET / keep ."), ("HTTP/1.0", "GET / close ."), ("HTTP/1.2", "!505"),
      ("HTTP/2.0", "!505"), ("HTTP/0.9", "!505"), ("HTTP/3.0", "!505"), ("HTTP/1.10", "!400"),
      ("HTTP/01.1", "!400"), ("HTTP/1", "!400"), ("HTTP/1.", "!400"), ("HTTP 1.1", "!400"),
      ("http/1.1", "!400"), ("HTTP/1,1", "!400"), ("HTTPS/1.1", "!400"), ("", "!400"),
      ("HTTP/1.1 x", "!400"), ("HTTP/x.1", "!400"),
    ])
  func versions(_ version: String, _ expected: String) {
    #expect(requests("GET / \(version)\r\nHost: a\r\n\r\n") == expected)
  }

  @Test("a request line without a version is HTTP/0.9, which nobody speaks")
  func http09() {
    #expect(requests("GET /\r\n\r\n") == "!400")
    #expect(requests("GET /\r\nHost: a\r\n\r\n") == "!400")
  }
}
