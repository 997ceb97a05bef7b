/// What waits for one subscriber: bounded in messages and bytes, with the policy for when it is full.
struct SubscriberQueue {
  /// A message as it will be sent; its payload is shared among subscribers.
  struct Entry: Hashable {
    var number: UInt64
    var isText: Bool
    var payload: [UInt8]
  }

  enum Outcome: Hashable {
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
  private(set) var bytes = 0

  init(messagesMax: Int, bytesMax: Int, policy: SlowSubscriberPolicy) {
    self.messagesMax = messagesMax
    self.bytesMax = bytesMax
    self.policy = policy
  }

  var count: Int { entries.count - head }
  var isEmpty: Bool { count == 0 }

  mutating func append(_ entry: Entry) -> Outcome {
    let size = entry.payload.count
    guard size <= bytesMax, messagesMax > 0 else {
      return policy == .disconnect ? .disconnect : .dropped(1)
    }
    if count < messagesMax, bytes + size <= bytesMax {
      put(entry)
      return .queued
    }
    switch policy {
    case .disconnect: return .disconnect
    case .dropNewest: return .dropped(1)
    case .dropOldest:
      var dropped = 0
      while count >= messagesMax || bytes + size > bytesMax {
        _ = popFirst()
        dropped += 1
      }
      put(entry)
      return .dropped(dropped)
    }
  }

  mutating func popFirst() -> Entry? {
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
    bytes += entry.payload.count
  }
}
