import GrenacheFraming
import GrenacheTransport
import Testing

@testable import Grenache

@Suite("Queues of publishers")
struct SubscriberQueueTests {
  func entry(_ number: UInt64, bytes: Int = 1) -> SubscriberQueue.Entry {
    .init(number: number, isText: true, payload: [UInt8](repeating: 0, count: bytes))
  }

  @Test("at the limit and one past it, by each policy", arguments: SlowSubscriberPolicy.allCases)
  func policies(_ policy: SlowSubscriberPolicy) {
    var queue = SubscriberQueue(messagesMax: 3, bytesMax: 100, policy: policy)
    for number in 1...3 { #expect(queue.append(entry(UInt64(number))) == .queued) }
    let outcome = queue.append(entry(4))
    var left: [UInt64] = []
    while let next = queue.popFirst() { left.append(next.number) }
    switch policy {
    case .dropOldest: #expect(outcome == .dropped(1) && left == [2, 3, 4])
    case .dropNewest: #expect(outcome == .dropped(1) && left == [1, 2, 3])
    case .disconnect: #expect(outcome == .disconnect)
    }
    #expect(queue.bytes == 0)
  }

  @Test("bytes count as well; what can never fit is dropped by itself")
  func bytes() {
    var queue = SubscriberQueue(messagesMax: 10, bytesMax: 10, policy: .dropOldest)
    #expect(queue.append(entry(1, bytes: 5)) == .queued)
    #expect(queue.append(entry(2, bytes: 5)) == .queued)
    #expect(queue.append(entry(3, bytes: 6)) == .dropped(2))
    #expect(queue.append(entry(4, bytes: 11)) == .dropped(1))
    #expect(queue.count == 1 && queue.bytes == 6)
  }

  @Test("the ring keeps the last, by number and by bytes")
  func ring() {
    var ring = ReplayRing(messagesMax: 3, bytesMax: 10)
    for number in 1...5 { #expect(ring.append(PubMessage("\(number)")).number == UInt64(number)) }
    #expect(ring.replay(after: 0).missing == 1...2)
    #expect(ring.replay(after: 0).messages.map(\.text) == ["3", "4", "5"])
    #expect(ring.replay(after: 1).missing == 2...2)
    #expect(ring.replay(after: 2).missing == nil)
    #expect(ring.replay(after: 3).messages.map(\.text) == ["4", "5"])
    #expect(ring.replay(after: 5).messages.isEmpty)
    #expect(ring.replay(after: .max).messages.isEmpty)
    _ = ring.append(PubMessage("12345678"))
    #expect(ring.replay(after: 0).messages.map(\.text) == ["4", "5", "12345678"])
    _ = ring.append(PubMessage("12345"))
    #expect(ring.replay(after: 0).messages.map(\.text) == ["12345"])
    _ = ring.append(PubMessage(String(repeating: "x", count: 11)))
    #expect(ring.replay(after: 0).messages.isEmpty)
    #expect(ring.replay(after: 2).missing == 3...8)
  }

  @Test(
    "what is no message", arguments: ["", "[", "[1]", "[1,null]", "[-1,null,\"a\"]", "[1,null,2]"])
  func noMessage(_ text: String) {
    #expect(PubWire.message(.text, Array(text.utf8).span) == nil)
    #expect(PubWire.message(.binary, Array(text.utf8).span) == nil)
  }

  @Test("messages are read as they were written")
  func roundTrip() {
    for topic in [nil, "t", "\u{e9}\""] {
      for message in [PubMessage("a\n\"", topic: topic), PubMessage(bytes: [0, 1], topic: topic)] {
        let kind: WebSocketMessageKind = if case .text = message.content { .text } else { .binary }
        let read = PubWire.message(kind, PubWire.payload(message, number: .max).span)
        var expected = message
        expected.number = .max
        #expect(read == expected)
      }
    }
  }
}
