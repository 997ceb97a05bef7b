import Testing

@testable import GrenacheFraming

@Suite("RFC 9110 §15 Status codes")
struct StatusTests {
  @Test("§15.2 interim responses precede the final one")
  func interim() {
    let final = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + final
    #expect(responses(text) == "1xx 1xx 200 keep .")
  }

  @Test("§15.2 an interim status is no answer")
  func interimIsNoAnswer() {
    var output: [UInt8] = [1]
    #expect(throws: HTTPError.self) {
      try output.appendHTTPResponseHead(
        HTTPStatus(code: 103), fields: [], contentLength: 0, date: [],
        connection: HTTPWriterTests.connection)
    }
    #expect(output == [1])
  }
}
