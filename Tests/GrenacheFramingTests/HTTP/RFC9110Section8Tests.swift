import Testing

@testable import GrenacheFraming

@Suite("RFC 9110 §8 Representation")
struct RepresentationTests {
  @Test("§8.6 a status without a body has no length either", arguments: [204, 304])
  func noLength(_ code: Int) throws {
    var output: [UInt8] = []
    try output.appendHTTPResponseHead(
      HTTPStatus(code: code), fields: [], contentLength: 0, date: Array("D".utf8),
      connection: HTTPWriterTests.connection)
    #expect(!String(decoding: output, as: UTF8.self).contains("Content-Length"))
  }
}
