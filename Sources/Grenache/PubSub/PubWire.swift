internal import Foundation
internal import GrenacheFraming

/// Messages on the wire, with the extension of `docs/wire-extensions.md` and without.
enum PubWire {
  /// What is offered: the first means nothing, since existing servers take the first whatever it is.
  static let offeredSubprotocols = ["grenache", "grenache.pub.v2"]
  static let subprotocol = "grenache.pub.v2"
  /// The bytes in front of the topic of a binary message: its number and the topic's length.
  static let binaryHeadBytes = 10

  /// What a subscriber says at first.
  struct Subscribe: Codable, Hashable {
    var topics: [String]?
    var after: UInt64?
    var epoch: String?
  }

  /// What a publisher says beside messages.
  struct Control: Codable, Hashable {
    struct Gap: Codable, Hashable {
      var from: UInt64
      var to: UInt64
    }
    var epoch: String?
    var next: UInt64?
    var gap: Gap?
  }

  private struct Opening: Codable {
    var subscribe: Subscribe
  }

  private static func encoded(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return (try? Array(encoder.encode(value))) ?? []
  }

  static func subscribe(_ subscribe: Subscribe) -> [UInt8] {
    encoded(Opening(subscribe: subscribe))
  }

  static func subscribe(from text: [UInt8]) -> Subscribe? {
    guard JSONScanner.isOneValue(text.span) else { return nil }
    return try? JSONDecoder().decode(Opening.self, from: Data(text)).subscribe
  }

  static func control(_ control: Control) -> [UInt8] {
    encoded(control)
  }

  static func control(from text: [UInt8]) -> Control? {
    guard JSONScanner.isOneValue(text.span) else { return nil }
    return try? JSONDecoder().decode(Control.self, from: Data(text))
  }

  /// The payload of a message for a subscriber that counts, and for one that does not.
  static func payload(_ message: PubMessage, number: UInt64?) -> [UInt8] {
    switch message.content {
    case .text(let text):
      guard let number else { return Array(text.utf8) }
      var output = Array("[\(number),".utf8)
      if let topic = message.topic {
        output.appendJSONString(topic)
      } else {
        output.append(contentsOf: "null".utf8)
      }
      output.append(0x2c)
      output.appendJSONString(text)
      output.append(0x5d)
      return output
    case .bytes(let bytes):
      guard let number else { return bytes }
      let topic = Array((message.topic ?? "").utf8)
      var output: [UInt8] = []
      output.reserveCapacity(binaryHeadBytes + topic.count + bytes.count)
      for shift in stride(from: 56, through: 0, by: -8) {
        output.append(UInt8(truncatingIfNeeded: number >> UInt64(shift)))
      }
      output.append(UInt8(truncatingIfNeeded: topic.count >> 8))
      output.append(UInt8(truncatingIfNeeded: topic.count))
      return output + topic + bytes
    }
  }

  /// Whether the message, as subscribers get it, has so many bytes at most, whatever its number.
  static func fits(_ message: PubMessage, bytesMax: Int) -> Bool {
    let content =
      switch message.content {
      case .text(let text): text.utf8.count
      case .bytes(let bytes): bytes.count
      }
    // What a byte may become in a JSON string, and what is around it.
    let room = 64 + 6 * PubMessage.topicBytesMax
    if content <= (bytesMax - room) / 6 { return true }
    return content <= bytesMax && payload(message, number: .max).count <= bytesMax
  }

  /// A message from a publisher that counts; `nil` for what is none.
  static func message(_ kind: WebSocketMessageKind, _ payload: Span<UInt8>) -> PubMessage? {
    kind == .text ? textMessage(payload) : binaryMessage(payload)
  }

  private static func textMessage(_ payload: Span<UInt8>) -> PubMessage? {
    guard JSONScanner.isOneValue(payload) else { return nil }
    var scanner = JSONScanner(at: 0)
    guard scanner.take(0x5b, payload), let number = scanner.skipValue(payload),
      scanner.take(0x2c, payload), let topic = scanner.skipValue(payload),
      scanner.take(0x2c, payload), let text = scanner.skipValue(payload),
      let count = UInt64(payload.extracting(number).string()), payload[text.lowerBound] == 0x22
    else { return nil }
    var message = PubMessage(string(payload, text))
    if payload[topic.lowerBound] == 0x22 { message.topic = string(payload, topic) }
    message.number = count
    return message
  }

  private static func binaryMessage(_ payload: Span<UInt8>) -> PubMessage? {
    guard payload.count >= binaryHeadBytes else { return nil }
    var number: UInt64 = 0
    for index in 0..<8 { number = number << 8 | UInt64(payload[index]) }
    let end = binaryHeadBytes + (Int(payload[8]) << 8 | Int(payload[9]))
    guard end <= payload.count else { return nil }
    var message = PubMessage(bytes: payload.extracting(end..<payload.count).copy())
    if end > binaryHeadBytes {
      message.topic = payload.extracting(binaryHeadBytes..<end).string()
    }
    message.number = number
    return message
  }

  private static func string(_ payload: Span<UInt8>, _ range: Range<Int>) -> String {
    JSONText.string(payload.extracting((range.lowerBound + 1)..<(range.upperBound - 1)))
  }
}
