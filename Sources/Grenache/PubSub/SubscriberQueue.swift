/// What waits for one subscriber: bounded in messages and bytes, with the policy for when it is full.
///
/// Which messages were given up is kept where they would have been, so that the subscriber is told in
/// its place: neighbours are one range, so that this needs no memory of its own.
package struct SubscriberQueue {
  /// A message as it will be sent; its payload is shared among subscribers.
  package struct Entry: Hashable {
    package var number: UInt64
    package var isText: Bool
    package var payload: [UInt8]
    /// What has been given up directly before it; other numbers that the subscriber did not ask for may
    /// lie between.
    package var lostBefore: ClosedRange<UInt64>?

    package init(number: UInt64, isText: Bool, payload: [UInt8]) {
      self.number = number
      self.isText = isText
      self.payload = payload
    }
  }

  package enum Outcome: Hashable {
    case queued
    /// So many messages have been given up, this one or others.
    case dropped(Int)
    case disconnect
  }

  private let messagesMax: Int
  private let bytesMax: Int
  private let policy: SlowSubscriberPolicy
  private var entries: [Entry] = []
  private var head = 0
  package private(set) var bytes = 0
  /// What has been given up behind the last entry.
  private var lostAtEnd: ClosedRange<UInt64>?

  package init(messagesMax: Int, bytesMax: Int, policy: SlowSubscriberPolicy) {
    self.messagesMax = messagesMax
    self.bytesMax = bytesMax
    self.policy = policy
  }

  var count: Int { entries.count - head }
  package var isEmpty: Bool { count == 0 }

  package mutating func append(_ entry: Entry) -> Outcome {
    let size = entry.payload.count
    guard size <= bytesMax, messagesMax > 0 else { return giveUp(entry) }
    if count < messagesMax, bytes + size <= bytesMax {
      put(entry)
      return .queued
    }
    guard policy == .dropOldest else { return giveUp(entry) }
    var dropped = 0
    var lost: ClosedRange<UInt64>?
    while count >= messagesMax || bytes + size > bytesMax, let oldest = popFirst() {
      lost = Self.joined(Self.joined(lost, oldest.lostBefore), oldest.number...oldest.number)
      dropped += 1
    }
    if isEmpty {
      lostAtEnd = Self.joined(lost, lostAtEnd)
    } else {
      entries[head].lostBefore = Self.joined(lost, entries[head].lostBefore)
    }
    put(entry)
    return .dropped(dropped)
  }

  /// What has been given up and has nothing behind it yet, once; for an empty queue.
  package mutating func takeLostAtEnd() -> ClosedRange<UInt64>? {
    guard isEmpty else { return nil }
    defer { lostAtEnd = nil }
    return lostAtEnd
  }

  private mutating func giveUp(_ entry: Entry) -> Outcome {
    if policy == .disconnect { return .disconnect }
    lostAtEnd = Self.joined(lostAtEnd, entry.number...entry.number)
    return .dropped(1)
  }

  private static func joined(
    _ first: ClosedRange<UInt64>?, _ second: ClosedRange<UInt64>?
  ) -> ClosedRange<UInt64>? {
    guard let first else { return second }
    guard let second else { return first }
    return min(first.lowerBound, second.lowerBound)...max(first.upperBound, second.upperBound)
  }

  package mutating func popFirst() -> Entry? {
    guard head < entries.count else { return nil }
    let entry = entries[head]
    entries[head].payload = []
    head += 1
    bytes -= entry.payload.count
    if head == entries.count {
      entries.removeAll(keepingCapacity: true)
      head = 0
    } else if head >= 64, head * 2 > entries.count {
      entries.removeFirst(head)
      head = 0
    }
    return entry
  }

  private mutating func put(_ entry: Entry) {
    entries.append(entry)
    entries[entries.count - 1].lostBefore = lostAtEnd
    lostAtEnd = nil
    bytes += entry.payload.count
  }
}
