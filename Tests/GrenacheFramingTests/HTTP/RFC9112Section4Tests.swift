import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §4 Status line")
struct StatusLineTests {
  @Test(
    "what is one",
    arguments: [
      ("HTTP/1.1 200 OK", "200 keep ."), ("HTTP/1.1 200 ", "200 keep ."),
      ("HTTP/1.1 200", "200 keep ."), ("HTTP/1.0 200 OK", "200 close ."),
      ("HTTP/1.1 599 \t!~\u{e4}", "599 keep ."), ("HTTP/1.1 418 I'm a teapot", "418 keep ."),
    ])
  func accepted(_ line: String, _ expected: String) {
    #expect(responses("\(line)\r\nContent-Length: 0\r\n\r\n") == expected)
  }

  @Test(
    "what is none",
    arguments: [
      "HTTP/1.1  200 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 20 OK", "HTTP/1.1 OK", "HTTP/1.1 200OK",
      "HTTP/1.1 099 X", "HTTP/1.1 600 X", "HTTP/1.1 2x0 X", "HTTP/1.1 200 a\rb",
      "HTTP/1.1 200 \u{0}", "HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "HTP/1.1 200 OK",
      " HTTP/1.1 200 OK", "HTTP/1.1", "ICY 200 OK", "", "HTTP/1.1 +20 OK", "HTTP/1.1 -20 OK",
    ])
  func refused(_ line: String) {
    let said = responses("\(line)\r\nContent-Length: 0\r\n\r\n")
    #expect(["!400", "!505"].contains(said))
  }
}
