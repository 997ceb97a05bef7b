internal import GrenacheFraming

/// A call as it stands on the wire: `["<rid>","<key>",<payload>]`, as ranges of its message.
///
/// Only the frame of the envelope is looked into; the payload is skipped, not decoded.
package struct RPCRequestEnvelope: Hashable, Sendable {
  /// The identifier as JSON of any kind, to be echoed as it is; `nil` for none, which is echoed as
  /// `null`.
  package var rid: Range<Int>?
  /// The content of the key between its quotes; `nil` when it is not a string.
  package var key: Range<Int>?
  /// Whether the key has escapes, so that its bytes are not those of the name.
  package var keyHasEscapes = false
  /// The payload, one JSON value; `nil` for none, which counts as `null`.
  package var payload: Range<Int>?
  /// The fourth element, which means something only where the extension was negotiated.
  package var context: Range<Int>?

  /// Splits a message; `nil` for what nobody answers: no JSON, or `null`, `0`, `false` or `""`.
  ///
  /// Existing servers take any other JSON that is no array for a call without identifier and key.
  ///
  /// - Parameter checksUTF8: whether that the bytes are UTF-8 is still to be checked.
  package init?(_ message: Span<UInt8>, checksUTF8: Bool) {
    if checksUTF8, !isValidUTF8(message) { return nil }
    var scanner = JSONScanner(at: 0)
    guard let first = scanner.peek(message) else { return nil }
    guard first == 0x5b else {
      guard JSONScanner.isOneValue(message), !Self.isFalsy(message) else { return nil }
      return
    }
    guard splitArray(message, &scanner) else { return nil }
    scanner.skipSpace(message)
    guard scanner.index == message.count else { return nil }
  }

  private mutating func splitArray(_ message: Span<UInt8>, _ scanner: inout JSONScanner) -> Bool {
    _ = scanner.take(0x5b, message)
    if scanner.take(0x5d, message) { return true }
    var position = 0
    repeat {
      guard let range = scanner.skipValue(message) else { return false }
      switch position {
      case 0: rid = range
      case 1: takeKey(range, message)
      case 2: payload = range
      case 3: context = range
      default: break  // more elements are ignored, as existing servers do
      }
      position += 1
    } while scanner.take(0x2c, message)
    return scanner.take(0x5d, message)
  }

  private mutating func takeKey(_ range: Range<Int>, _ message: Span<UInt8>) {
    guard message[range.lowerBound] == 0x22 else { return }
    let content = (range.lowerBound + 1)..<(range.upperBound - 1)
    key = content
    for index in content where message[index] == 0x5c {
      keyHasEscapes = true
      return
    }
  }

  /// What JavaScript takes for false.
  private static func isFalsy(_ message: Span<UInt8>) -> Bool {
    var scanner = JSONScanner(at: 0)
    guard let range = scanner.skipValue(message) else { return true }
    let value = message.extracting(range)
    if value.equals("null") || value.equals("false") || value.equals("\"\"") { return true }
    var index = value[0] == 0x2d ? 1 : 0
    while index < value.count {
      switch value[index] {
      case 0x30, 0x2e: index += 1
      case 0x65, 0x45: return index > 0
      default: return false
      }
    }
    return true
  }

  /// The key as a string; `nil` when it is none.
  package func keyString(in message: Span<UInt8>) -> String? {
    key.map { JSONText.string(message.extracting($0)) }
  }

  /// Appends a call of this client, whose identifiers are numbers in quotes.
  ///
  /// - Parameter context: appends the fourth element, where there is one.
  package static func append(
    rid: UInt64, service: String, payload: [UInt8], to output: inout [UInt8],
    context: ((inout [UInt8]) -> Void)? = nil
  ) {
    output.append(contentsOf: "[\"\(rid)\",".utf8)
    output.appendJSONString(service)
    output.append(0x2c)
    output.append(contentsOf: payload)
    if let context {
      output.append(0x2c)
      context(&output)
    }
    output.append(0x5d)
  }
}

extension Range<Int>? {
  /// A copy of the bytes, or `null` for none.
  func bytes(in message: Span<UInt8>) -> [UInt8] {
    guard let range = self else { return Array("null".utf8) }
    return message.extracting(range).copy()
  }
}
