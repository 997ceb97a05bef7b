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
}
