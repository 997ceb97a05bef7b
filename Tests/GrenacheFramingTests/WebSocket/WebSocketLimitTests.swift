import ConformanceCases
import Testing

@testable import GrenacheFraming

private let roles = [WebSocketRole.server, .client]

@Suite("P8, P9: WebSocket messages are bounded before they are buffered")
struct WebSocketLimitTests {
  @Test("P9 a message at the limit and one past it, whole and in parts", arguments: roles)
  func bytes(_ role: WebSocketRole) {
    let limits = WebSocketLimits(messageBytesMax: 100)
    func read(_ input: [UInt8]) -> [WebSocketEvent] {
      readFrames(input, role: role, limits: limits)
    }
    let most = [UInt8](repeating: 1, count: 100)
    #expect(read(frame(.binary, most, to: role)) == [.message(.binary, most)])
    // The head alone is enough to refuse it: no byte of the payload has come.
    let over = frame(.binary, most + [1], to: role)
    #expect(read(Array(over.prefix(role == .server ? 6 : 2))) == [.error(1009)])
    let parts = frame(.binary, Array(most.prefix(60)), to: role, isFinal: false)
    #expect(
      read(parts + frame(.continuation, Array(most.prefix(40)), to: role))
        == [.message(.binary, most)])
    #expect(
      read(parts + frame(.continuation, Array(most.prefix(41)), to: role)) == [.error(1009)])
  }

  @Test("P8 fragments are counted")
  func fragments() {
    let limits = WebSocketLimits(fragmentsMax: 3)
    func read(_ count: Int) -> [WebSocketEvent] {
      var input = frame(.binary, [1], to: .client, isFinal: false)
      for number in 1..<count {
        input += frame(.continuation, [1], to: .client, isFinal: number == count - 1)
      }
      return readFrames(input, role: .client, limits: limits)
    }
    #expect(read(3) == [.message(.binary, [1, 1, 1])])
    #expect(read(4) == [.error(1008)])
  }

  @Test("P10 control frames are counted in a window of time")
  func control() throws {
    var budget = ControlFrameBudget(limits: WebSocketLimits(controlFramesMax: 3))
    for _ in 0..<3 { try budget.spend(at: .seconds(1)) }
    #expect(throws: WebSocketError.self) { try budget.spend(at: .seconds(9)) }
    try budget.spend(at: .seconds(20))
  }

  @Test("P10 whatever the window begins with: no ten seconds hold more than the limit")
  func controlWindow() throws {
    var budget = ControlFrameBudget(limits: WebSocketLimits(controlFramesMax: 3))
    try budget.spend(at: .seconds(1))
    for _ in 0..<2 { try budget.spend(at: .seconds(10)) }
    try budget.spend(at: .seconds(11))
    #expect(throws: WebSocketError.self) { try budget.spend(at: .seconds(12)) }
    for _ in 0..<2 { try budget.spend(at: .seconds(20)) }
    #expect(throws: WebSocketError.self) { try budget.spend(at: .seconds(20)) }
  }
}
