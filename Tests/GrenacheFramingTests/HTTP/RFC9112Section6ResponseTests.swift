import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §6.3 Response body length")
struct ResponseTests {
  @Test("a response to HEAD, and those that never have one, have no body")
  func noBody() {
    let head = Array("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".utf8)
    #expect(parseResponses(head, to: .head).last == .end)
    #expect(parseResponses(Array("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n".utf8)).last == .end)
  }

  @Test("a stream that ends in the middle is never taken for a whole response")
  func truncation() {
    let whole = Array("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".utf8)
    for count in 40..<whole.count {
      #expect(parseResponses(Array(whole[..<count])).last == .error(status: 400))
    }
    #expect(parseResponses(whole).last == .end)
  }

  @Test("interim responses are bounded")
  func informational() {
    let one = "HTTP/1.1 103 X\r\n\r\n"
    let final = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    let most = Array((String(repeating: one, count: 16) + final).utf8)
    #expect(parseResponses(most).last == .end)
    let more = Array((String(repeating: one, count: 17) + final).utf8)
    #expect(parseResponses(more).last == .error(status: 400))
  }

  @Test(
    "what ends a response's body",
    arguments: [
      ("200 OK\r\nContent-Length: 3\r\n\r\nabc", "200 keep =abc ."),
      (
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "200 keep =abc ."
      ),
      ("200 OK\r\n\r\nabc", "200 close =abc ."), ("200 OK\r\n\r\n", "200 close ."),
      ("204 X\r\n\r\n", "204 keep ."), ("304 X\r\nContent-Length: 3\r\n\r\n", "304 keep ."),
      ("204 X\r\nTransfer-Encoding: chunked\r\n\r\n", "!400"),
      ("100 X\r\nTransfer-Encoding: chunked\r\n\r\n", "!400"),
      ("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "!400"),
      ("200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "!400"),
      ("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "!501"),
      ("200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n", "!413"),
      ("200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "200 close ."),
    ])
  func length(_ text: String, _ expected: String) {
    #expect(responses("HTTP/1.1 \(text)") == expected)
  }

  @Test("a response to HEAD has a length and no body, rule 1")
  func head() {
    for field in ["Content-Length: 5", "Transfer-Encoding: chunked", "X: y"] {
      let text = "HTTP/1.1 200 OK\r\n\(field)\r\n\r\n"
      #expect(responses(text + text, to: .head) == "200 keep . 200 keep .")
    }
  }
}
