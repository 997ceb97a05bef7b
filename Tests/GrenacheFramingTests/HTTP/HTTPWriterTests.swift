import Testing

@testable import GrenacheFraming

@Suite("Writing HTTP")
struct HTTPWriterTests {
  static let connection = HTTPConnectionField(keepsAlive: true, idleSeconds: 5)

  @Test("what is written is read back")
  func roundTrip() throws {
    var output: [UInt8] = []
    try output.appendHTTPRequestHead(
      .post, target: "/x?y", host: "a:1", fields: [("X", "y z")], contentLength: 2)
    output += Array("ab".utf8)
    let events = parseRequests(output)
    #expect(
      events == [
        .head(
          method: "POST", target: "/x?y", status: 200,
          fields: ["Host: a:1", "X: y z", "Content-Length: 2"], keepsAlive: true),
        .body(Array("ab".utf8)), .end,
      ])
  }

  @Test("a response has exactly these fields")
  func response() throws {
    var output: [UInt8] = []
    try output.appendHTTPResponseHead(
      .ok, fields: [], contentLength: 10, date: Array("D".utf8), connection: Self.connection)
    let text = "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n"
    #expect(String(decoding: output, as: UTF8.self) == text + "Content-Length: 10\r\n\r\n")
  }

  @Test("RFC 9110 §8.6 a status without a body has no length either", arguments: [204, 304])
  func noLength(_ code: Int) throws {
    var output: [UInt8] = []
    try output.appendHTTPResponseHead(
      HTTPStatus(code: code), fields: [], contentLength: 0, date: Array("D".utf8),
      connection: Self.connection)
    #expect(!String(decoding: output, as: UTF8.self).contains("Content-Length"))
  }

  @Test("RFC 9110 §15.2 an interim status is no answer")
  func interim() {
    var output: [UInt8] = [1]
    #expect(throws: HTTPError.self) {
      try output.appendHTTPResponseHead(
        HTTPStatus(code: 103), fields: [], contentLength: 0, date: [], connection: Self.connection)
    }
    #expect(output == [1])
  }

  @Test(
    "no field of a caller can split a message",
    arguments: [("X\r\n", "y"), ("X", "y\r\nZ: 1"), ("X", "y\0"), ("X:", "y"), ("", "y")])
  func splitting(_ name: String, _ value: String) {
    var fields = HTTPFields()
    fields.append(name, value)
    var output: [UInt8] = [1]
    #expect(throws: HTTPError.self) {
      try output.appendHTTPResponseHead(
        .ok, fields: fields, contentLength: 0, date: [], connection: Self.connection)
    }
    #expect(throws: HTTPError.self) {
      try output.appendHTTPRequestHead(
        .get, target: "/", host: "a", fields: fields, contentLength: nil)
    }
    #expect(output == [1])
  }

  @Test(
    "dates, RFC 9110 §5.6.7",
    arguments: [
      (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
      (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
      (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
    ])
  func dates(_ seconds: Int64, _ text: String) {
    #expect(String(decoding: HTTPDate.imfFixdate(secondsSince1970: seconds), as: UTF8.self) == text)
  }
}
