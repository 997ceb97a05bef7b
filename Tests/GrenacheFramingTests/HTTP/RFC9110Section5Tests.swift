import Testing

@testable import GrenacheFraming

@Suite("RFC 9110 §5 Fields")
struct FieldValueTests {
  @Test("values may have any byte that is no control character, §5.5")
  func obsText() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e4}\u{ff}~ !\t\"\r\nY:\r\nZ:z\r\n\r\n"
    #expect(requests(text) == "GET / keep .")
  }

  @Test(
    "dates, §5.6.7",
    arguments: [
      (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
      (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
      (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
    ])
  func dates(_ seconds: Int64, _ text: String) {
    #expect(String(decoding: HTTPDate.imfFixdate(secondsSince1970: seconds), as: UTF8.self) == text)
  }
}
