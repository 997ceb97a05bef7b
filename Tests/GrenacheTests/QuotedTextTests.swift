import GrenacheAccess
import GrenacheTransport
import Testing

@testable import Grenache

@Suite("What others say, in logs and on terminals")
struct QuotedTextTests {
  @Test(
    "so many bytes are left, whole characters and whole escapes",
    arguments: [
      (2, "ab…"), (3, "abc…"), (8, "abc…"), (9, "abc\\u{1b}…"), (10, "abc\\u{1b}…"),
      (11, "abc\\u{1b}\u{e9}"),
    ])
  func cut(_ bytesMax: Int, _ expected: String) {
    #expect("abc\u{1b}\u{e9}".quotedForLog(bytesMax: bytesMax) == expected)
  }

  @Test("an error is one line, and not longer than that, whoever has written it")
  func description() {
    let text = "bad\r\n2026-01-01 info forged: \u{1b}[2J" + String(repeating: "x", count: 100_000)
    let cause = TransportError(.upgradeRefused, stage: .upgrade, message: text)
    for error in [
      GrenacheError(.remoteError, text), GrenacheError(.grapeRefused, text, cause: cause),
    ] {
      #expect(error.description.utf8.count < 2_500)
      let scalars = error.description.unicodeScalars
      #expect(!scalars.contains { $0.properties.generalCategory == .control })
      #expect(error.description.hasPrefix("bad\\u{d}\\u{a}2026"))
      // A program gets it as it was.
      #expect(error.message == text)
    }
  }
}
