import GrenacheIO
import GrenacheTLS
import TestSupport
import Testing

@testable import GrenacheTransport

@Suite("P3 who shakes hands, who waits and who makes room")
struct HandshakeQueueTests {
  private typealias Number = HandshakeQueue.Number

  private func queue(silent: Int = 1_024, shaking: Int = 256) -> HandshakeQueue {
    HandshakeQueue(
      silentMax: silent, shakingMax: shaking, waitMax: .seconds(10), quietMax: .seconds(1))
  }

  private func time(_ milliseconds: Int) -> MonotonicTime {
    MonotonicTime(nanoseconds: UInt64(1_000_000 * (milliseconds + 60_000)))
  }

  /// Everything that there is to do, of those who have all been quiet since the same time.
  private func actions(
    _ queue: inout HandshakeQueue, at now: MonotonicTime, quietSince: MonotonicTime? = nil
  ) -> [HandshakeQueue.Action] {
    var actions: [HandshakeQueue.Action] = []
    while let action = queue.next(at: now, quietSince: { _ in quietSince }) {
      actions.append(action)
    }
    return actions
  }

  @Test(
    "of those who say nothing, as many as the limit stay, and one more costs the oldest its place")
  func silent() {
    var queue = queue(silent: 3)
    let first = (0..<3).map { _ in queue.arrived() }
    #expect(first.allSatisfy { $0.crowdedOut == nil })
    queue.left(first[0].number)
    #expect(queue.arrived().crowdedOut == nil)
    #expect(queue.arrived().crowdedOut == first[1].number)
    queue.spoke(first[2].number, at: time(0))
    #expect(queue.arrived().crowdedOut == nil)
    #expect(queue.nextLook != nil)
    #expect(actions(&queue, at: time(0)) == [.begin(first[2].number)])
  }

  @Test(
    "handshakes up to the limit begin at once, one past it when one ends, in the order of speaking")
  func order() {
    var queue = queue(shaking: 2)
    let numbers = (0..<4).map { _ in queue.arrived().number }
    for number in numbers.reversed() { queue.spoke(number, at: time(0)) }
    #expect(actions(&queue, at: time(0)) == [.begin(numbers[3]), .begin(numbers[2])])
    queue.left(numbers[3])
    #expect(actions(&queue, at: time(1)) == [.begin(numbers[1])])
    #expect(actions(&queue, at: time(9_999)) == [])
    #expect(queue.nextLook == time(10_000))
    #expect(actions(&queue, at: time(10_000)) == [.giveUp(numbers[0])])
    #expect(queue.nextLook == nil)
  }

  @Test("whoever has a place and is quiet makes room after a second, but only for one who waits")
  func quiet() {
    var queue = queue(shaking: 3)
    let numbers = (0..<5).map { _ in queue.arrived().number }
    for number in numbers[..<3] { queue.spoke(number, at: time(0)) }
    #expect(actions(&queue, at: time(0)).count == 3)
    #expect(actions(&queue, at: time(5_000), quietSince: time(0)) == [])
    for number in numbers[3...] { queue.spoke(number, at: time(5_000)) }
    let since = [numbers[0]: time(4_500), numbers[1]: time(3_900), numbers[2]: time(4_000)]
    var done: [HandshakeQueue.Action] = []
    while let action = queue.next(at: time(5_000), quietSince: { since[$0] }) {
      done.append(action)
    }
    #expect(
      done == [
        .makeRoom(numbers[1]), .begin(numbers[3]), .makeRoom(numbers[2]), .begin(numbers[4]),
      ])
  }

  @Test("who waits for this side to take its step does not make room; the next look comes in time")
  func busy() {
    var queue = queue(shaking: 1)
    let numbers = (0..<2).map { _ in queue.arrived().number }
    for number in numbers { queue.spoke(number, at: time(0)) }
    #expect(actions(&queue, at: time(0)) == [.begin(numbers[0])])
    #expect(queue.nextLook == time(1_000))
    #expect(actions(&queue, at: time(1_000)) == [])
    #expect(queue.nextLook == time(2_000))
    #expect(actions(&queue, at: time(2_000), quietSince: time(1_200)) == [])
    #expect(queue.nextLook == time(2_200))
    #expect(
      actions(&queue, at: time(2_200), quietSince: time(1_200)) == [
        .makeRoom(numbers[0]), .begin(numbers[1]),
      ])
  }

  /// What strangers do after they have connected.
  enum Stranger: CaseIterable {
    case saysNothing
    case stopsAfterRecord
  }

  @Test(
    "whatever strangers keep up for half a minute, who does speak has its turn",
    arguments: [(.saysNothing, 5_000, 1), (.stopsAfterRecord, 200, 1_100)]
      as [(Stranger, Int, Int)])
  func flood(_ stranger: Stranger, perSecond: Int, waitMsMax: Int) {
    var queue = queue()
    var random = SeededGenerator(seed: 3)
    var spokeAt: [Number: Int] = [:]
    var ends: [Int: [Number]] = [:]
    var quiet: [Number: MonotonicTime] = [:]
    var waits: [Int] = []
    for now in 0..<30_000 {
      for number in ends.removeValue(forKey: now) ?? [] { queue.left(number) }
      if Int.random(in: 0..<1_000, using: &random) < perSecond % 1_000 || perSecond >= 1_000 {
        for _ in 0..<max(1, perSecond / 1_000) {
          let number = queue.arrived().number
          if stranger == .stopsAfterRecord {
            queue.spoke(number, at: time(now))
            quiet[number] = time(now)
          }
        }
      }
      if now % 50 == 0 {
        let number = queue.arrived().number
        queue.spoke(number, at: time(now))
        spokeAt[number] = now
      }
      while let action = queue.next(at: time(now), quietSince: { quiet[$0] }) {
        switch action {
        case .begin(let number):
          if let spoke = spokeAt[number] {
            waits.append(now - spoke)
            ends[now + 30, default: []].append(number)
          }
        case .giveUp(let number): #expect(spokeAt[number] == nil)
        case .makeRoom(let number):
          #expect(spokeAt[number] == nil)
          quiet[number] = nil
        }
      }
    }
    #expect(waits.count >= 570)
    #expect((waits.max() ?? 0) <= waitMsMax)
  }

  @Test(
    "a first record is whole with its last byte; what is refused by its header, with that",
    arguments: [
      ([], 5), ([22, 3, 1], 5), ([22, 3, 1, 0, 200], 205), ([22, 3, 1, 2, 0, 1, 0], 517),
      ([22, 3, 1, 0x40, 0], 4_096), ([22, 3, 1, 0x40, 1], 5), (Array("GET /".utf8), 5),
      ([22, 3, 1, 0, 0], 5), ([22, 3, 1, 0xff, 0xff, 1], 5),
    ] as [([UInt8], Int)])
  func firstRecord(_ start: [UInt8], _ needed: Int) {
    #expect(TLSFirstRecord.bytesNeeded(start.span) == needed)
  }
}
