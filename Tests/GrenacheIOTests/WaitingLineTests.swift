import Testing

@testable import GrenacheIO

private final class Waiter: WaitsInLine {
  let number: Int
  var isOver = false

  init(_ number: Int) { self.number = number }
}

@Suite("A line of those who wait")
struct WaitingLineTests {
  @Test(
    "in their order; those who have given up are passed over, whether they have said so yet or not")
  func order() {
    var line = WaitingLine<Waiter>()
    let waiters = (0..<5).map(Waiter.init)
    for waiter in waiters { line.append(waiter) }
    waiters[0].isOver = true
    waiters[2].isOver = true
    line.giveUp()
    #expect(line.count == 4)
    var order: [Int] = []
    while let next = line.popFirst() { order.append(next.number) }
    #expect(order == [1, 3, 4])
    // The one that has not said so yet counts until then.
    #expect(line.count == 1)
    line.giveUp()
    #expect(line.count == 0)
    line.append(waiters[1])
    line.prepend(waiters[3])
    #expect(line.popFirst()?.number == 3)
  }

  @Test(
    "the line keeps no more who have given up than who wait, or a few",
    arguments: [1, 16, 17, 10_000])
  func kept(_ count: Int) {
    var line = WaitingLine<Waiter>()
    var waiters: [Weak] = []
    for number in 0..<count {
      let waiter = Waiter(number)
      waiters.append(Weak(waiter: waiter))
      line.append(waiter)
    }
    for known in waiters {
      known.waiter?.isOver = true
      line.giveUp()
    }
    #expect(line.count == 0)
    #expect(waiters.count { $0.waiter != nil } <= 16)
  }

  private struct Weak {
    weak var waiter: Waiter?
  }
}
