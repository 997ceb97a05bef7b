import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §8 Incomplete messages")
struct IncompleteMessageTests {
  @Test("a request that stops anywhere gives no end")
  func requestsCut() {
    let text =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      + "2\r\nab\r\n0\r\nT: r\r\n\r\n"
    for count in 0..<text.utf8.count {
      #expect(!parseRequests(Array(text.utf8.prefix(count))).contains(.end), "\(count) bytes")
    }
    #expect(requests(text) == "POST / keep =ab .")
  }

  @Test(
    "a response that stops in its body is an error, but for one that ends with the stream",
    arguments: [
      ("Content-Length: 5\r\n\r\nab", "200 keep =ab !400"),
      ("Content-Length: 5\r\n\r\n", "200 keep !400"),
      ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "200 keep =ab !400"),
      ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", "200 keep =ab !400"),
      ("Transfer-Encoding: chunked\r\n\r\n", "200 keep !400"),
      ("X: y\r\n\r\nab", "200 close =ab ."),
    ])
  func responsesCut(_ text: String, _ expected: String) {
    #expect(responses("HTTP/1.1 200 OK\r\n\(text)") == expected)
  }
}
