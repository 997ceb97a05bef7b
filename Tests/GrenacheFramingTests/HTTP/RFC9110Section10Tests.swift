import Testing

@testable import GrenacheFraming

@Suite("RFC 9110 §10 Context: Expect")
struct ExpectTests {
  @Test(
    "§10.1.1 100-continue is the one expectation, and HTTP/1.0 has none",
    arguments: [
      ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", "POST / keep continue"),
      ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", "POST / keep continue"),
      ("1.1", "Expect: 100-continue\r\n", "POST / keep ."),
      ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", "POST / keep ."),
      ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", "POST / close"),
      ("1.1", "Expect: 200-ok\r\n", "!417"), ("1.1", "Expect:\r\n", "!417"),
      ("1.1", "Expect: 100-continue, x\r\n", "!417"),
    ])
  func expect(_ version: String, _ fields: String, _ expected: String) {
    #expect(requests("POST / HTTP/\(version)\r\nHost: a\r\n\(fields)\r\n") == expected)
  }
}
