/// A message that is published or received.
public struct PubMessage: Hashable, Sendable {
  /// What a message holds.
  public enum Content: Hashable, Sendable {
    /// A text, sent as it is.
    case text(String)
    /// Bytes.
    case bytes([UInt8])
  }

  /// What it holds.
  public var content: Content
  /// What it is about; `nil` for nothing in particular, and from publishers that know no topics.
  public var topic: String?
  /// Its number in this run of its publisher, from 1 on; `nil` from publishers that do not count.
  public var number: UInt64?
  /// The name of that run, which is the same at each address of the publisher and changes when it starts
  /// again and counts anew; `nil` from publishers that do not count.
  public var run: String?

  /// Bytes that a topic may have.
  public static let topicBytesMax = 255

  /// Whether a topic is no longer than one may be.
  static func isTopic(_ topic: String) -> Bool { topic.utf8.count <= topicBytesMax }

  /// A text.
  public init(_ text: String, topic: String? = nil) {
    content = .text(text)
    self.topic = topic
  }

  /// Bytes.
  public init(bytes: [UInt8], topic: String? = nil) {
    content = .bytes(bytes)
    self.topic = topic
  }

  /// The text, or the bytes as UTF-8.
  public var text: String {
    switch content {
    case .text(let text): text
    case .bytes(let bytes): String(decoding: bytes, as: UTF8.self)
    }
  }
}

/// What a publisher does with a subscriber that does not keep up.
public enum SlowSubscriberPolicy: String, Hashable, Sendable, CaseIterable {
  /// Gives up the oldest of what waits for it (the default).
  case dropOldest
  /// Gives up the new message.
  case dropNewest
  /// Closes its connection.
  case disconnect
}
