import Testing

@testable import GrenacheFraming

@Suite("RFC 6455 §5.5.2 Keep-alive")
struct KeepAliveTests {
  private func machine() throws -> WebSocketKeepAlive {
    var options = WebSocketOptions()
    options.pingInterval = .seconds(30)
    options.pongTimeout = .seconds(20)
    return try #require(WebSocketKeepAlive(options))
  }

  /// What the machine says at second `now`, with the last byte at `last`.
  private func fire(
    _ machine: inout WebSocketKeepAlive, _ now: Int, last: Int, isReading: Bool = true
  ) -> WebSocketKeepAlive.Action {
    machine.timerFired(at: .seconds(now), lastReceipt: .seconds(last), isReading: isReading)
  }

  private let ping = WebSocketKeepAlive.Action.sendPing(thenWait: .seconds(20))

  @Test("a peer that talks is left alone")
  func talking() throws {
    var machine = try machine()
    #expect(machine.firstWait == .seconds(30))
    #expect(fire(&machine, 30, last: 20) == .wait(.seconds(20)))
    #expect(fire(&machine, 50, last: 49) == .wait(.seconds(29)))
  }

  @Test("a quiet peer is pinged, and given up when it stays quiet")
  func quiet() throws {
    var machine = try machine()
    #expect(fire(&machine, 30, last: 0) == ping)
    #expect(fire(&machine, 50, last: 0) == .giveUp)
  }

  @Test("whatever comes after the ping counts, as long ago as it may be")
  func pong() throws {
    var machine = try machine()
    #expect(fire(&machine, 30, last: 0) == ping)
    #expect(fire(&machine, 50, last: 31) == .wait(.seconds(11)))
    #expect(fire(&machine, 61, last: 31) == ping)
    #expect(fire(&machine, 101, last: 62) == ping)
    #expect(fire(&machine, 121, last: 62) == .giveUp)
  }

  @Test("who does not listen cannot know")
  func notReading() throws {
    var machine = try machine()
    #expect(fire(&machine, 30, last: 0, isReading: false) == .wait(.seconds(30)))
    #expect(fire(&machine, 60, last: 0) == ping)
    #expect(fire(&machine, 80, last: 0, isReading: false) == .wait(.seconds(30)))
    #expect(fire(&machine, 110, last: 0) == ping)
  }

  @Test("without an interval nobody looks")
  func off() {
    var options = WebSocketOptions()
    options.pingInterval = nil
    #expect(WebSocketKeepAlive(options) == nil)
  }
}
