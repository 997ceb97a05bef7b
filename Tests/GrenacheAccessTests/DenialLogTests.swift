import GrenacheAccess
import GrenacheIO
import Logging
import TestSupport
import Testing

@Suite("Denials are logged, and nobody floods the log with them")
struct DenialLogTests {
  @Test(
    "a line has the right, the key and who it was; without a certificate, the port is no other who")
  func line() throws {
    let (log, lines) = (DenialLog(), LogRecorder(.notice))
    let now = MonotonicTime.now()
    for port: UInt16 in [1_000, 1_001, 1_002] {
      let address = try #require(SocketAddress(ip: "192.0.2.7", port: port))
      log.log(.subscribe, on: "ne\nws", by: nil, at: address, now: now, lines.logger)
    }
    #expect(
      lines.texts == [
        "notice denied: no rule of the access policy allows it "
          + "by=192.0.2.7:1000 from=192.0.2.7:1000 right=subscribe service=ne\\u{a}ws"
      ])
    let other = try #require(SocketAddress(ip: "192.0.2.8", port: 1_000))
    log.log(.subscribe, on: "ne\nws", by: nil, at: other, now: now, lines.logger)
    log.log(
      .call, on: String(repeating: "x", count: 5_000), by: nil, at: other, now: now, lines.logger)
    #expect(lines.texts.count == 3)
    #expect(lines.texts[2].utf8.count < 400)
  }
}
