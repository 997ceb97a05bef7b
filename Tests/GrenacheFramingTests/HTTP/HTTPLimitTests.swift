import Testing

@testable import GrenacheFraming

@Suite("HTTP limits, at and one past each")
struct HTTPLimitTests {
  @Test("head, lines and fields")
  func head() {
    let one = request("X: \(String(repeating: "a", count: 100))")
    #expect(status(one, limits: HTTPLimits(headBytesMax: one.count)) == nil)
    #expect(status(one, limits: HTTPLimits(headBytesMax: one.count - 1)) == 431)
    #expect(status(one, limits: HTTPLimits(lineBytesMax: 105)) == nil)
    #expect(status(one, limits: HTTPLimits(lineBytesMax: 104)) == 431)
    #expect(status(one, limits: HTTPLimits(fieldsMax: 2)) == nil)
    #expect(status(one, limits: HTTPLimits(fieldsMax: 1)) == 431)
    let long = request(line: "GET /\(String(repeating: "a", count: 100)) HTTP/1.1")
    #expect(status(long, limits: HTTPLimits(lineBytesMax: 116)) == nil)
    #expect(status(long, limits: HTTPLimits(lineBytesMax: 115)) == 414)
  }

  @Test("an endless head is refused before it is complete, whatever it consists of")
  func endless() {
    for piece in ["a", "a: b\r\n"] {
      let text = "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: piece, count: 20_000)
      #expect(status(text) == 431)
    }
  }

  @Test("bodies, announced and chunked")
  func body() {
    let limits = HTTPLimits(bodyBytesMax: 5)
    let hello = Array("hello".utf8)
    #expect(status(request("Content-Length: 5") + hello, limits: limits) == nil)
    #expect(status(request("Content-Length: 6"), limits: limits) == 413)
    let chunked = request("Transfer-Encoding: chunked")
    #expect(status(chunked + Array("5\r\nhello\r\n0\r\n\r\n".utf8), limits: limits) == nil)
    #expect(status(chunked + Array("5\r\nhello\r\n1\r\n".utf8), limits: limits) == 413)
  }

  @Test("a body that ends with the stream gives all that is allowed, and then the error")
  func untilClose() {
    let limits = HTTPLimits(bodyBytesMax: 5)
    let head = "HTTP/1.1 200 OK\r\n\r\n"
    #expect(responses(head + "hello", limits: limits) == "200 close =hello .")
    #expect(responses(head + "hello, world", limits: limits) == "200 close =hello !413")
  }

  @Test("chunk lines and trailers")
  func chunkLines() {
    let limits = HTTPLimits(chunkLineBytesMax: 10, trailerBytesMax: 20)
    let start = request("Transfer-Encoding: chunked")
    func status(_ body: String) -> Int? {
      GrenacheFramingTests.status(start + Array(body.utf8), limits: limits)
    }
    #expect(status("1;abcdef\r\na\r\n0\r\n\r\n") == nil)
    #expect(status("1;abcdefg\r\na\r\n0\r\n\r\n") == 400)
    #expect(status("0\r\nA: bcdefghijklmnopq\r\n\r\n") == 431)
    #expect(status("0\r\nA: bcdefghijklm\r\n\r\n") == nil)
  }
}
