import Testing

@testable import GrenacheFraming

@Suite("RFC 9110 §6 Message abstraction")
struct TrailerTests {
  private func body(_ text: String) -> String {
    requests(String(decoding: request("Transfer-Encoding: chunked"), as: UTF8.self) + text)
  }

  @Test(
    "fields that belong into the head are no trailers, §6.5.1",
    arguments: [
      "Transfer-Encoding", "Content-Length", "Host", "Connection", "Upgrade", "Expect", "TE",
      "Trailer", "Authorization", "Cookie", "Set-Cookie", "Content-Type", "Content-Encoding",
      "Content-Range", "transfer-ENCODING",
    ])
  func forbidden(_ name: String) {
    #expect(body("0\r\n\(name): 1\r\n\r\n") == "POST / keep !400")
  }
}
