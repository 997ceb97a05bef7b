import Testing

@testable import GrenacheFraming

@Suite("RFC 9110 §7 Routing: Host and Upgrade")
struct RoutingTests {
  @Test(
    "what is a Host, §7.2",
    arguments: [
      "a", "a.b", "A-1_2.example:8080", "127.0.0.1:1", "[::1]", "[fe80::1:2]:443", "a:", "%61",
      "xn--4ca.example", "a:65535", "[::ffff:1.2.3.4]",
    ])
  func validHost(_ value: String) {
    #expect(requests("GET / HTTP/1.1\r\nHost: \(value)\r\n\r\n") == "GET / keep .")
  }

  @Test(
    "and what is none",
    arguments: [
      "", " ", "a b", "a/b", "a/", "b@a", "a?b", "a#b", "a:b", "a:1:2", ":80", "[::1", "::1", "[]",
      "[x]", "[::1]a", "a\"b", "a\\b", "ä", "http://a", "%zz", "%00", "a:123456", "a\tb", "<a>",
    ])
  func invalidHost(_ value: String) {
    #expect(requests("GET / HTTP/1.1\r\nHost: \(value)\r\n\r\n") == "!400")
  }

  private func get(_ fields: String, version: String = "1.1") -> String {
    requests(
      "GET / HTTP/\(version)\r\nHost: a\r\nConnection: upgrade, keep-alive\r\n\(fields)\r\n")
  }

  @Test("§7.8 an upgrade is asked for by two fields, in HTTP/1.1, without a body")
  func upgrade() {
    #expect(get("Upgrade: websocket\r\n") == "GET / keep upgrade .")
    #expect(get("Upgrade: h2c, WebSocket\r\n") == "GET / keep upgrade .")
    #expect(get("Upgrade: h2c\r\n") == "GET / keep .")
    #expect(get("") == "GET / keep .")
    #expect(get("Upgrade: websocket\r\n", version: "1.0") == "GET / keep .")
    #expect(get("Upgrade: websocket\r\nContent-Length: 1\r\n") == "GET / keep")
    let alone = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"
    #expect(requests(alone) == "GET / keep .")
  }

  @Test("§7.8 a switch that was not asked for is an error")
  func unaskedSwitch() {
    let text = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    #expect(responses(text, mayUpgrade: true) == "^")
    #expect(responses(text) == "!400")
  }
}
