internal import GrenacheFraming

/// A reply as it stands on the wire: `["<rid>",<error>,<result>]`, as ranges of its message.
package struct RPCReplyEnvelope: Hashable, Sendable {
  private var rid: Range<Int>?
  private var error: Range<Int>?
  /// The result, one JSON value; `nil` for none, which counts as `null`.
  package private(set) var result: Range<Int>?

  /// Splits a message; `nil` for one that is no reply.
  package init?(_ message: Span<UInt8>, checksUTF8: Bool) {
    if checksUTF8, !isValidUTF8(message) { return nil }
    var scanner = JSONScanner(at: 0)
    guard scanner.take(0x5b, message) else { return nil }
    rid = scanner.skipValue(message)
    guard rid != nil else { return nil }
    if scanner.take(0x2c, message) {
      error = scanner.skipValue(message)
      if scanner.take(0x2c, message) { result = scanner.skipValue(message) }
    }
    // More elements are ignored, but what is there must be JSON.
    while scanner.take(0x2c, message) {
      guard scanner.skipValue(message) != nil else { return nil }
    }
    guard scanner.take(0x5d, message) else { return nil }
    scanner.skipSpace(message)
    guard scanner.index == message.count else { return nil }
  }

  /// The identifier, if it is one of this client's: a number in quotes.
  package func ridNumber(in message: Span<UInt8>) -> UInt64? {
    rid.flatMap { Self.number(in: message.extracting($0)) }
  }

  /// The identifier of a message that need not be a reply but for its beginning, if it is one of this
  /// client's.
  static func ridNumber(beginning message: Span<UInt8>) -> UInt64? {
    var scanner = JSONScanner(at: 0)
    guard scanner.take(0x5b, message), let rid = scanner.skipValue(message) else { return nil }
    return number(in: message.extracting(rid))
  }

  private static func number(in rid: Span<UInt8>) -> UInt64? {
    guard rid.count > 2, rid.count <= 22, rid[0] == 0x22 else { return nil }
    var number: UInt64 = 0
    for index in 1..<(rid.count - 1) {
      let digit = rid[index] &- 0x30
      let (shifted, overflow) = number.multipliedReportingOverflow(by: 10)
      let (sum, carry) = shifted.addingReportingOverflow(UInt64(digit))
      guard digit < 10, !overflow, !carry else { return nil }
      number = sum
    }
    return number
  }

  /// The worker's error; `nil` for none. What JavaScript takes for false is none, as existing clients see it.
  package func errorMessage(in message: Span<UInt8>) -> String? {
    guard let error else { return nil }
    let value = message.extracting(error)
    if value.equals("null") || value.equals("\"\"") || value.equals("false")
      || value.equals("0")
    {
      return nil
    }
    if value[0] == 0x22 { return JSONText.string(value.extracting(1..<(value.count - 1))) }
    return String(decoding: value.copy(), as: UTF8.self)
  }

  /// The result, where there is one that says something.
  func resultBesideError(in message: Span<UInt8>) -> [UInt8]? {
    guard let result, !message.extracting(result).equals("null") else { return nil }
    return message.extracting(result).copy()
  }

  /// How many bytes `append(rid:result:to:)` appends.
  package static func byteCount(rid: [UInt8], result: [UInt8]) -> Int {
    rid.count + result.count + 8
  }

  /// Appends a reply with a result; both are JSON already.
  package static func append(rid: [UInt8], result: [UInt8], to output: inout [UInt8]) {
    output.append(0x5b)
    output.append(contentsOf: rid)
    output.append(contentsOf: ",null,".utf8)
    output.append(contentsOf: result)
    output.append(0x5d)
  }

  /// Appends a reply with an error, and the result beside it, if there is one: one JSON value.
  package static func append(
    rid: [UInt8], error: String, result: [UInt8]? = nil, to output: inout [UInt8]
  ) {
    output.append(0x5b)
    output.append(contentsOf: rid)
    output.append(0x2c)
    output.appendJSONString(error)
    output.append(0x2c)
    output.append(contentsOf: result ?? Array("null".utf8))
    output.append(0x5d)
  }

  static func append(rid: [UInt8], _ fault: RPCFault, to output: inout [UInt8]) {
    append(rid: rid, error: fault.message, result: fault.result, to: &output)
  }
}
