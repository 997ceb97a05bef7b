internal import GrenacheFraming

/// What a call says beside its payload, as the negotiated extension has it
/// (`docs/wire-extensions.md`): `{"t":<milliseconds>,"m":{"<name>":"<value>",…}}`.
package struct RPCCallContext: Hashable, Sendable {
  /// The subprotocols of the opening handshake: the first is what existing servers take when they are
  /// offered any, and means nothing; the second is the extension.
  package static let offeredSubprotocols = ["grenache", "grenache.v2"]
  package static let subprotocol = "grenache.v2"
  /// The fields of a call over HTTPS.
  package static let timeoutField = "Grenache-Timeout"
  package static let metadataField = "Grenache-Metadata"

  /// Entries of metadata that are taken; more make the call one without metadata.
  package static let metadataEntriesMax = 32
  /// Bytes of metadata that are taken, as JSON.
  package static let metadataBytesMax = 16 << 10

  /// The milliseconds that the caller still waits.
  package var timeoutMs: UInt32?
  package var metadata: [String: String] = [:]

  package init() {}

  // MARK: Reading

  /// Reads the object at `range`; members that are unknown or not as they should be are left out.
  package init(_ message: Span<UInt8>, at range: Range<Int>) {
    forEachMember(of: message, at: range) { name, value in
      if name.equals("t") {
        timeoutMs = Self.milliseconds(value)
      } else if name.equals("m") {
        metadata = Self.metadata(value)
      }
    }
  }

  /// The fields of an HTTP request.
  package init(timeout: String?, metadata text: String?) {
    if let timeout { timeoutMs = Self.milliseconds(Array(timeout.utf8).span) }
    if let text {
      let bytes = Array(text.utf8)
      if JSONScanner.isOneValue(bytes.span) { metadata = Self.metadata(bytes.span) }
    }
  }

  /// The identifier that a `{"cancel":"<rid>"}` names, as JSON; `nil` for another message.
  package static func cancelledID(_ message: Span<UInt8>) -> Range<Int>? {
    guard JSONScanner.isOneValue(message) else { return nil }
    var scanner = JSONScanner(at: 0)
    guard scanner.take(0x7b, message), scanner.peek(message) == 0x22 else { return nil }
    let start = scanner.index
    guard scanner.skipString(message),
      message.extracting(start..<scanner.index).equals("\"cancel\""), scanner.take(0x3a, message)
    else { return nil }
    return scanner.skipValue(message)
  }

  private static func milliseconds(_ digits: Span<UInt8>) -> UInt32? {
    guard digits.count > 0, digits.count <= 9 else { return nil }
    var number: UInt32 = 0
    for index in digits.indices {
      let digit = digits[index] &- 0x30
      guard digit < 10 else { return nil }
      number = number * 10 + UInt32(digit)
    }
    return number
  }

  private static func metadata(_ object: Span<UInt8>) -> [String: String] {
    guard object.count <= metadataBytesMax else { return [:] }
    var entries: [String: String] = [:]
    var count = 0
    forEachMember(of: object, at: 0..<object.count) { name, value in
      guard value.count >= 2, value[0] == 0x22 else { return }
      count += 1
      guard count <= metadataEntriesMax else { return }
      entries[JSONText.string(name)] = JSONText.string(value.extracting(1..<(value.count - 1)))
    }
    return count <= metadataEntriesMax ? entries : [:]
  }

  // MARK: Writing

  package static func append(
    timeoutMs: UInt32, metadata: [String: String], to output: inout [UInt8]
  ) {
    output.append(contentsOf: "{\"t\":".utf8)
    output.appendDecimal(timeoutMs)
    if !metadata.isEmpty {
      output.append(contentsOf: ",\"m\":".utf8)
      append(metadata: metadata, to: &output)
    }
    output.append(0x7d)
  }

  /// Appends the object, in which no byte is one that a field of HTTP may not have.
  package static func append(metadata: [String: String], to output: inout [UInt8]) {
    let start = output.count
    var separator: UInt8 = 0x7b
    for (name, value) in metadata {
      output.append(separator)
      separator = 0x2c
      output.appendJSONString(name)
      output.append(0x3a)
      output.appendJSONString(value)
    }
    if metadata.isEmpty { output.append(0x7b) }
    output.append(0x7d)
    escapeDelete(in: &output, from: start)
  }

  /// JSON may have U+007F as it is (RFC 8259 §7), and a field may not (RFC 9110 §5.5).
  private static func escapeDelete(in output: inout [UInt8], from start: Int) {
    guard output[start...].contains(0x7f) else { return }
    let written = Array(output[start...])
    output.removeSubrange(start...)
    for byte in written {
      if byte == 0x7f {
        output.append(contentsOf: "\\u007f".utf8)
      } else {
        output.append(byte)
      }
    }
  }
}

/// Calls `body` with the name, without quotes, and the value of each member of the JSON object at
/// `range`, which has been checked; nothing for what is no object.
private func forEachMember(
  of message: Span<UInt8>, at range: Range<Int>, _ body: (Span<UInt8>, Span<UInt8>) -> Void
) {
  var scanner = JSONScanner(at: range.lowerBound)
  guard scanner.take(0x7b, message), scanner.peek(message) == 0x22 else { return }
  repeat {
    guard scanner.peek(message) == 0x22 else { return }
    let start = scanner.index + 1
    guard scanner.skipString(message) else { return }
    let name = start..<(scanner.index - 1)
    guard scanner.take(0x3a, message), let value = scanner.skipValue(message) else { return }
    body(message.extracting(name), message.extracting(value))
  } while scanner.take(0x2c, message)
}

extension [UInt8] {
  /// Decimal digits without a detour over a string.
  mutating func appendDecimal(_ number: UInt32) {
    if number >= 10 { appendDecimal(number / 10) }
    append(0x30 + UInt8(truncatingIfNeeded: number % 10))
  }
}
