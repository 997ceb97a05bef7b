package import DequeModule

/// The last messages of a publisher, for subscribers that come back: bounded in number and bytes.
package struct ReplayRing {
  private let messagesMax: Int
  private let bytesMax: Int
  private var messages: Deque<PubMessage> = []
  private var bytes = 0
  /// The number that the next message has.
  package private(set) var next: UInt64 = 1

  package init(messagesMax: Int, bytesMax: Int) {
    self.messagesMax = messagesMax
    self.bytesMax = bytesMax
  }

  /// Numbers a message and keeps it, giving up the oldest for it: as many steps as messages go, however
  /// many are kept.
  package mutating func append(_ message: PubMessage) -> PubMessage {
    var numbered = message
    numbered.number = next
    next += 1
    let size = Self.bytes(numbered)
    guard messagesMax > 0, size <= bytesMax else {
      messages = []
      bytes = 0
      return numbered
    }
    messages.append(numbered)
    bytes += size
    while messages.count > messagesMax || bytes > bytesMax, let gone = messages.popFirst() {
      bytes -= Self.bytes(gone)
    }
    return numbered
  }

  /// What a subscriber gets that knows everything up to `number`: what is missing, and what is kept.
  package func replay(
    after number: UInt64
  ) -> (missing: ClosedRange<UInt64>?, messages: Slice<Deque<PubMessage>>) {
    // Whoever claims to know more than there has been knows everything.
    guard number < next - 1 else { return (nil, messages[messages.endIndex...]) }
    let first = next - UInt64(messages.count)
    guard number + 1 < first else {
      return (nil, messages[min(Int(clamping: number + 1 - first), messages.count)...])
    }
    return (number + 1...first - 1, messages[...])
  }

  private static func bytes(_ message: PubMessage) -> Int {
    switch message.content {
    case .text(let text): text.utf8.count
    case .bytes(let bytes): bytes.count
    }
  }
}
