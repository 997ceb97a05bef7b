import Testing

@testable import GrenacheTransport

@Suite("What waits to be encrypted")
struct OutputQueueTests {
  private func queue(_ count: Int, sealed: Int = 0) -> OutputQueue {
    var queue = OutputQueue()
    queue.bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
    queue.sealed(sealed)
    return queue
  }

  @Test(
    "what comes next is behind what was sealed, as much as is allowed",
    arguments: [
      (0, 0, 16, 0..<0), (15, 0, 16, 0..<15), (16, 0, 16, 0..<16), (17, 0, 16, 0..<16),
      (17, 16, 16, 16..<17), (17, 17, 16, 17..<17), (40, 16, 16, 16..<32),
    ])
  func next(_ count: Int, _ sealed: Int, _ most: Int, _ range: Range<Int>) {
    let queue = queue(count, sealed: sealed)
    #expect(queue.next(atMost: most) == range)
    #expect(queue.unsealedCount == count - sealed)
    #expect(queue.isSealed == (count == sealed))
    #expect(queue.isUnsealed == (sealed == 0))
  }

  @Test(
    "what was sealed is forgotten from a size on, when it is half of all",
    arguments: [
      // count, sealed, forgotten
      (31, 15, 0), (32, 16, 16), (33, 16, 0), (33, 17, 17), (20, 15, 0), (20, 16, 16),
    ])
  func forget(_ count: Int, _ sealed: Int, _ forgotten: Int) {
    var queue = queue(count, sealed: sealed)
    let rest = Array(queue.bytes[sealed...])
    #expect(queue.forgetSealed(from: 16) == nil)
    #expect(queue.bytes.count == count - forgotten)
    #expect(Array(queue.bytes[queue.next(atMost: count)]) == rest)
  }

  @Test("a queue that is sealed gives its memory back, one that has none does not")
  func spent() {
    var some = queue(3, sealed: 3)
    #expect(some.forgetSealed(from: 16)?.count == 3)
    #expect(some.bytes.capacity == 0 && some.sealedCount == 0)
    #expect(some.forgetSealed(from: 16) == nil)
    var reserved = OutputQueue()
    reserved.bytes.reserveCapacity(8)
    #expect(reserved.forgetSealed(from: 16)?.isEmpty == true)
  }

  @Test("no more is sealed than there is")
  func excess() {
    #expect(queue(3, sealed: 4).sealedCount == 3)
    #expect(queue(3, sealed: -1).sealedCount == 0)
  }
}
