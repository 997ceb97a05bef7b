/// Where a value of a bencoded message lies, and what it is. Nothing is copied.
struct BencodeField: Sendable {
  enum Kind: Hashable, Sendable {
    case integer(Int64)
    /// The content of a string.
    case bytes
    /// What is between `l` or `d` and `e`.
    case list
    case dictionary
  }
  let kind: Kind
  /// The content, without what surrounds it.
  let content: Range<Int>
  /// The whole value as it was encoded.
  let encoded: Range<Int>

  var integer: Int64? {
    if case .integer(let value) = kind { value } else { nil }
  }
}

/// Walks the values of one level of a bencoded message (BEP 3), checking each to its end.
///
/// Unsorted keys and bytes behind the first value are accepted, as existing nodes do.
struct BencodeReader {
  /// How deep lists and dictionaries may be nested: a value of BEP 44 may be of any shape.
  static let depthMax = 32

  private var index: Int
  private let end: Int

  init(_ range: Range<Int>) {
    index = range.lowerBound
    end = range.upperBound
  }

  var isAtEnd: Bool { index >= end }

  /// The next value; `nil` when there is none that is well-formed.
  mutating func value(_ bytes: Span<UInt8>) -> BencodeField? {
    field(bytes, depth: 0)
  }

  /// The next entry of a dictionary.
  mutating func entry(_ bytes: Span<UInt8>) -> (key: Range<Int>, value: BencodeField)? {
    guard let key = string(bytes), let value = value(bytes) else { return nil }
    return (key, value)
  }

  private mutating func field(_ bytes: Span<UInt8>, depth: Int) -> BencodeField? {
    guard index < end, depth < Self.depthMax else { return nil }
    let start = index
    switch bytes[index] {
    case UInt8(ascii: "i"):
      index += 1
      guard let value = number(bytes, until: UInt8(ascii: "e"), mayBeNegative: true) else {
        return nil
      }
      return BencodeField(
        kind: .integer(value), content: (start + 1)..<(index - 1), encoded: start..<index)
    case UInt8(ascii: "0")...UInt8(ascii: "9"):
      guard let content = string(bytes) else { return nil }
      return BencodeField(kind: .bytes, content: content, encoded: start..<index)
    case UInt8(ascii: "l"):
      return container(.list, bytes, depth: depth)
    case UInt8(ascii: "d"):
      return container(.dictionary, bytes, depth: depth)
    default:
      return nil
    }
  }

  private mutating func container(
    _ kind: BencodeField.Kind, _ bytes: Span<UInt8>, depth: Int
  ) -> BencodeField? {
    let start = index
    index += 1
    while index < end, bytes[index] != UInt8(ascii: "e") {
      if kind == .dictionary, string(bytes) == nil { return nil }
      guard field(bytes, depth: depth + 1) != nil else { return nil }
    }
    guard index < end else { return nil }
    index += 1
    return BencodeField(kind: kind, content: (start + 1)..<(index - 1), encoded: start..<index)
  }

  private mutating func string(_ bytes: Span<UInt8>) -> Range<Int>? {
    guard let length = number(bytes, until: UInt8(ascii: ":"), mayBeNegative: false),
      length <= Int64(end - index)
    else { return nil }
    let start = index
    index += Int(length)
    return start..<index
  }

  /// Decimal digits without leading zeros and without a negative zero.
  private mutating func number(
    _ bytes: Span<UInt8>, until stop: UInt8, mayBeNegative: Bool
  ) -> Int64? {
    var isNegative = false
    if mayBeNegative, index < end, bytes[index] == UInt8(ascii: "-") {
      isNegative = true
      index += 1
    }
    let start = index
    var value: Int64 = 0
    while index < end, bytes[index] &- 0x30 < 10 {
      let digit = Int64(bytes[index] &- 0x30)
      let (shifted, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) =
        isNegative
        ? shifted.subtractingReportingOverflow(digit) : shifted.addingReportingOverflow(digit)
      guard !overflow, !carry else { return nil }
      value = sum
      index += 1
    }
    let digits = index - start
    guard digits > 0, index < end, bytes[index] == stop else { return nil }
    if bytes[start] == 0x30, digits > 1 || isNegative { return nil }
    index += 1
    return value
  }
}

// MARK: Writing

extension [UInt8] {
  mutating func append(ascii text: String) {
    append(contentsOf: text.utf8)
  }

  mutating func append(bencoded value: Int64) {
    append(UInt8(ascii: "i"))
    append(contentsOf: String(value).utf8)
    append(UInt8(ascii: "e"))
  }

  mutating func append(bencoded bytes: [UInt8]) {
    append(length: bytes.count)
    append(contentsOf: bytes)
  }

  /// The beginning of a string of `length` bytes.
  mutating func append(length: Int) {
    append(contentsOf: String(length).utf8)
    append(UInt8(ascii: ":"))
  }
}
