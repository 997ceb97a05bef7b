import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("Input that is held")
struct InputHoldTests {
  @Test("who has paused is handed nothing, and hears of nothing again before it resumes")
  func paused() {
    var hold = InputHold()
    hold.pause()
    #expect(!hold.wantsMore)
    #expect(!hold.beginPass(isHeldByOutput: false) && !hold.isInPass)
    hold.keep([1, 2].span)
    #expect(hold.leftover == [1, 2] && !hold.wantsRedelivery)
    let (was, again) = (hold.resume(), hold.resume())
    #expect(was && !again && hold.wantsMore)
    #expect(hold.askAgain() && hold.wantsRedelivery)
  }

  @Test("who resumes with nothing held, and nothing that may be left, is called when more comes")
  func nothing() {
    var hold = InputHold()
    #expect(!hold.askAgain() && !hold.wantsRedelivery)
    #expect(hold.beginPass(isHeldByOutput: false) == true)
    // What this pass will leave, nobody knows yet.
    #expect(hold.askAgain() && hold.wantsRedelivery)
  }

  @Test("what output holds up comes again, unless the user has paused", arguments: [false, true])
  func heldByOutput(_ isPaused: Bool) {
    var hold = InputHold()
    if isPaused { hold.pause() }
    #expect(hold.beginPass(isHeldByOutput: true) == false)
    #expect(hold.wantsRedelivery == !isPaused)
  }

  @Test("what the user leaves because of its output comes again, if it has left something")
  func left() {
    for rest in [[], [1]] as [[UInt8]] {
      var hold = InputHold()
      #expect(hold.beginPass(isHeldByOutput: false) == true)
      hold.endPass()
      hold.keep(rest.span)
      hold.heldByOutput()
      #expect(hold.wantsRedelivery == !rest.isEmpty)
    }
  }

  @Test("the end is told when all has been offered, and nobody has paused")
  func end() {
    var hold = InputHold()
    #expect(!hold.tellsEnd)
    hold.pause()
    hold.end()
    #expect(!hold.tellsEnd && !hold.wantsMore)
    #expect(hold.resume() == true)
    // The end itself is something to come back for.
    #expect(hold.askAgain() == true)
    #expect(!hold.tellsEnd)
    hold.beginRedelivery()
    #expect(hold.tellsEnd && !hold.wantsMore)
  }

  @Test("whatever pauses and holds, every byte is taken once and in order", arguments: 1...20)
  func order(_ seed: Int) {
    var generator = SeededGenerator(seed: UInt64(seed))
    var hold = InputHold()
    var (next, taken): (UInt8, [UInt8]) = (0, [])
    /// As a stream does: what was held, and what has come behind it.
    func pass(_ new: [UInt8], isHeldByOutput: Bool) {
      let bytes = hold.leftover + new
      guard hold.beginPass(isHeldByOutput: isHeldByOutput) else { return hold.keep(bytes.span) }
      let count = Int.random(in: 0...bytes.count, using: &generator)
      taken += bytes[..<count]
      if Bool.random(using: &generator) { hold.pause() }
      hold.endPass()
      hold.keep(bytes.span.extracting(count..<bytes.count))
    }
    for _ in 0..<200 {
      let new = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
        defer { next &+= 1 }
        return next
      }
      pass(new, isHeldByOutput: Int.random(in: 0..<3, using: &generator) == 0)
      if Bool.random(using: &generator), hold.resume(), hold.askAgain() {
        hold.beginRedelivery()
        pass([], isHeldByOutput: false)
      }
    }
    taken += hold.leftover
    #expect(taken == taken.indices.map { UInt8(truncatingIfNeeded: $0) })
    #expect(UInt8(truncatingIfNeeded: taken.count) == next)
  }
}
