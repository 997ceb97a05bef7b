import Testing

@testable import GrenacheFraming

@Suite("RFC 9112 §7 Transfer codings")
struct TransferCodingTests {
  @Test(
    "what is no chunk, §7.1",
    arguments: [
      ("0x1\r\na\r\n0\r\n\r\n", 400), ("+1\r\na\r\n0\r\n\r\n", 400), (" 1\r\na\r\n0\r\n\r\n", 400),
      ("1 \r\na\r\n0\r\n\r\n", 400), ("\r\na\r\n0\r\n\r\n", 400), ("g\r\n", 400), ("-1\r\n", 400),
      ("1\r\nab\r\n0\r\n\r\n", 400), ("1\r\na\n0\r\n\r\n", 400), ("1\na\r\n0\r\n\r\n", 400),
      ("1;a\u{1}\r\na\r\n0\r\n\r\n", 400), ("ffffffffffffffff1\r\n", 413),
      ("7fffffffffffffff\r\n", 413), ("0\r\nbad trailer\r\n\r\n", 400),
      ("0\r\nA: \u{0}\r\n\r\n", 400), ("1\r\na\r0\r\n\r\n", 400),
    ])
  func chunks(_ body: String, _ expected: Int) {
    #expect(status(request("Transfer-Encoding: chunked") + Array(body.utf8)) == expected)
  }

  @Test(
    "chunk sizes in any case, extensions and trailers are taken",
    arguments: [
      "5\r\nhello\r\n0\r\n\r\n", "0005\r\nhello\r\n0\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
      "5;a=b;c\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    ])
  func chunked(_ body: String) {
    #expect(self.body(body) == "POST / keep =hello .")
  }

  private func body(_ text: String) -> String {
    requests(String(decoding: request("Transfer-Encoding: chunked"), as: UTF8.self) + text)
  }

  @Test(
    "chunk extensions are parsed and ignored, §7.1.1",
    arguments: [
      ";a", ";a=b", ";a=\"b\"", ";a=\"b;c\\\"d\"", " ;a", "\t; a", ";a ;b=c; d = \"e\"", ";a=\"\"",
    ])
  func extensions(_ text: String) {
    #expect(body("1\(text)\r\nx\r\n0\(text)\r\n\r\n") == "POST / keep =x .")
  }

  @Test(
    "what is no extension, §7.1.1",
    arguments: [
      " ", ";", ";;a", ";a;", ";=b", ";a=", ";a=b c", ";a=\"b", ";a=\"b\\\"", ";a b", " a", "a=b",
      ";a=\"b\"c", ";a=\"\\\r\"",
      ";a=\"\\\0\"", ";a=\"\\\u{7f}\"", ";a=\"b\\", ";a=\u{7f}", ";\u{0}", ",a", ";a=(b)",
    ])
  func noExtensions(_ text: String) {
    #expect(body("1\(text)\r\nx\r\n0\r\n\r\n") == "POST / keep !400")
  }

  @Test(
    "trailers are checked and dropped, §7.1.2",
    arguments: [
      ("A: b\r\n", "."), ("A:\r\nB: \t c \r\n", "."), ("Digest: x=1\r\n", "."),
      ("A : b\r\n", "!400"), (" A: b\r\n", "!400"), ("A\r\n", "!400"), (": b\r\n", "!400"),
      ("A: b\r\n c\r\n", "!400"), ("A: \u{1}\r\n", "!400"), ("A: b\n", "!400"),
      ("A: b\rc\r\n", "!400"),
    ])
  func trailers(_ text: String, _ expected: String) {
    #expect(body("0\r\n\(text)\r\n") == "POST / keep \(expected)")
  }
}
