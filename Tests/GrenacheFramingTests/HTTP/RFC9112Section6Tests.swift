import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §6 Message body: nothing ambiguous")
struct BodyFramingTests {
  @Test(
    "lengths that contradict or cannot be told",
    arguments: [
      (["Content-Length: 1", "Content-Length: 1"], 400),
      (["Content-Length: 1", "Content-Length: 2"], 400), (["Content-Length: 1, 1"], 400),
      (["Content-Length: +1"], 400), (["Content-Length: -1"], 400), (["Content-Length: 0x1"], 400),
      (["Content-Length: 1 1"], 400), (["Content-Length:"], 400), (["Content-Length: 1a"], 400),
      (["Content-Length: ١"], 400), (["Content-Length: 99999999999999999999"], 413),
      (["Content-Length: 9223372036854775807"], 413), (["Content-Length: 1e1"], 400),
      (["Transfer-Encoding: chunked", "Content-Length: 1"], 400),
      (["Content-Length: 1", "Transfer-Encoding: chunked"], 400),
      (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
      (["Transfer-Encoding: chunked, chunked"], 501), (["Transfer-Encoding: gzip, chunked"], 501),
      (["Transfer-Encoding: identity"], 501), (["Transfer-Encoding: xchunked"], 501),
      (["Transfer-Encoding: chunked;a=b"], 501), (["Transfer-Encoding:\u{0b}chunked"], 400),
      (["Transfer-Encoding: \"chunked\""], 501), (["Transfer-Encoding:"], 501),
      (["Transfer_Encoding: chunked", "Transfer-Encoding : chunked"], 400),
      (["Expect: 200-ok"], 417),
    ])
  func refused(_ fields: [String], _ expected: Int) {
    let text = (["POST / HTTP/1.1", "Host: a"] + fields).joined(separator: "\r\n") + "\r\n\r\n"
    #expect(status(text) == expected)
  }

  @Test("Transfer-Encoding has no place in HTTP/1.0, §6.1")
  func http10() {
    #expect(status(request("Transfer-Encoding: chunked", line: "POST / HTTP/1.0")) == 400)
  }

  @Test(
    "what ends a request's body, §6.3",
    arguments: [
      (
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / keep . GET /2 keep ."
      ),
      ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST / keep ."),
      (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc", "POST / keep =abc ."
      ),
      ("POST / HTTP/1.1\r\nHost: a\r\ncontent-length:3\r\n\r\nab", "POST / keep =ab"),
      ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na", "GET / keep =a ."),
      (
        "DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "DELETE / keep =a ."
      ),
      ("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\na", "POST / close =a ."),
      ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "!400"),
      ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "!501"),
    ])
  func requestLength(_ text: String, _ expected: String) {
    #expect(requests(text) == expected)
  }
}
