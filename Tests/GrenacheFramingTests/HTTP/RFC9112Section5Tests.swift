import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §5 Field syntax")
struct FieldTests {
  @Test(
    "what is no field line",
    arguments: [
      "A : b", "A\t: b", ": b", "A b: c", "A\u{0}: b", "A: b\u{0}c", "A: b\u{1}", "A: b\rc",
      " folded", "\tfolded", "A", "A(: b", "A: \u{7f}", "Ä: b",
    ])
  func refused(_ line: String) {
    #expect(status(request(line)) == 400)
  }

  @Test("a bare line feed ends no line, §2.2")
  func bareLF() {
    #expect(status("GET / HTTP/1.1\nHost: a\n\n") == 400)
    #expect(status("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n") == 400)
    #expect(status("GET / HTTP/1.1\r\nHost: a\r\n\n") == 400)
  }

  @Test("white space around a value is not part of it")
  func trimming() {
    let events = parseRequests(request("X: \t a b \t"))
    guard case .head(_, _, _, let fields, _)? = events.first else {
      Issue.record("no head")
      return
    }
    #expect(fields == ["Host: a", "X: a b"])
  }

  @Test(
    "a folded line is refused from a client and unfolded from a server, §5.2",
    arguments: [
      ("A: b\r\n c", "b   c"), ("A: b\r\n\tc\r\n d", "b  \tc   d"),
      ("A: b \r\n \r\n c", "b       c"), ("A:\r\n b", "b"), ("A: b\r\n ", "b"),
    ])
  func folding(_ line: String, _ value: String) {
    #expect(requests("GET / HTTP/1.1\r\nHost: a\r\n\(line)\r\n\r\n") == "!400")
    let response = "HTTP/1.1 200 OK\r\n\(line)\r\nContent-Length: 0\r\n\r\n"
    #expect(responses(response) == "200 keep .")
    guard case .head(_, _, _, let fields, _)? = parseResponses(Array(response.utf8)).first else {
      Issue.record("no head")
      return
    }
    #expect(fields == ["A: \(value)", "Content-Length: 0"])
  }

  @Test(
    "a fold never stands before the first field, nor in one that frames the message",
    arguments: [
      " A: b\r\nContent-Length: 0", "Content-Length: 1\r\n 0", "Content-Length: 0\r\n 1",
      "Transfer-Encoding: chunked\r\n ,gzip",
    ])
  func foldedFraming(_ fields: String) {
    #expect(["!400", "!501"].contains(responses("HTTP/1.1 200 OK\r\n\(fields)\r\n\r\n")))
  }
}
