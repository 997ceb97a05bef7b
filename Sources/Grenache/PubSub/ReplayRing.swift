/// The last messages of a publisher, for subscribers that come back: bounded in number and bytes.
struct ReplayRing {
  private let messagesMax: Int
  private let bytesMax: Int
  private var messages: [PubMessage] = []
  private var bytes = 0
  /// The number that the next message has.
  private(set) var next: UInt64 = 1

  init(messagesMax: Int, bytesMax: Int) {
    self.messagesMax = messagesMax
    self.bytesMax = bytesMax
  }

  /// Numbers a message and keeps it, giving up the oldest for it.
  mutating func append(_ message: PubMessage) -> PubMessage {
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
    var gone = 0
    while messages.count - gone > messagesMax || bytes > bytesMax {
      bytes -= Self.bytes(messages[gone])
      gone += 1
    }
    messages.removeFirst(gone)
    return numbered
  }

  /// What is kept behind `number`, and the first number that is.
  func after(_ number: UInt64) -> (messages: ArraySlice<PubMessage>, first: UInt64) {
    let first = next - UInt64(messages.count)
    // Whoever claims to know more than there has been knows everything.
    guard number < next else { return ([], next) }
    guard number >= first else { return (messages[...], first) }
    let skipped = min(Int(clamping: number - first) + 1, messages.count)
    return (messages[skipped...], max(number + 1, first))
  }

  private static func bytes(_ message: PubMessage) -> Int {
    switch message.content {
    case .text(let text): text.utf8.count
    case .bytes(let bytes): bytes.count
    }
  }
}
