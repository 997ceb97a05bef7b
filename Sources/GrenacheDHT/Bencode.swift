/// A value of bencoding (BEP 3).
package indirect enum Bencode: Hashable, Sendable {
  case integer(Int64)
  case bytes([UInt8])
  case list([Bencode])
  case dictionary([[UInt8]: Bencode])

  package init(_ text: String) { self = .bytes(Array(text.utf8)) }

  package var integer: Int64? {
    if case .integer(let value) = self { value } else { nil }
  }
  package var bytes: [UInt8]? {
    if case .bytes(let value) = self { value } else { nil }
  }
  package var list: [Bencode]? {
    if case .list(let value) = self { value } else { nil }
  }

  /// The entry of a dictionary; `nil` for another kind of value.
  package subscript(_ key: StaticString) -> Bencode? {
    guard case .dictionary(let entries) = self else { return nil }
    return entries[Array(key.description.utf8)]
  }
}

// MARK: Encoding

extension Bencode {
  /// The encoded value; the keys of dictionaries are sorted.
  package var encoded: [UInt8] {
    var output: [UInt8] = []
    encode(to: &output)
    return output
  }

  private func encode(to output: inout [UInt8]) {
    switch self {
    case .integer(let value):
      output.append(contentsOf: "i\(value)e".utf8)
    case .bytes(let value):
      Self.encode(value, to: &output)
    case .list(let values):
      output.append(UInt8(ascii: "l"))
      for value in values { value.encode(to: &output) }
      output.append(UInt8(ascii: "e"))
    case .dictionary(let entries):
      output.append(UInt8(ascii: "d"))
      for (key, value) in entries.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        Self.encode(key, to: &output)
        value.encode(to: &output)
      }
      output.append(UInt8(ascii: "e"))
    }
  }

  private static func encode(_ bytes: [UInt8], to output: inout [UInt8]) {
    output.append(contentsOf: "\(bytes.count):".utf8)
    output.append(contentsOf: bytes)
  }
}

// MARK: Decoding

extension Bencode {
  /// How deep lists and dictionaries may be nested; KRPC needs four levels.
  static let depthMax = 8
  /// How many values one message may hold; a full `nodes` answer of an existing node has a hundred.
  static let valuesMax = 2_048

  /// Decodes the value at the start of `bytes`. Unsorted keys and bytes behind the value are accepted,
  /// as existing nodes do; a key that comes twice is not.
  package init?(decoding bytes: Span<UInt8>) {
    var decoder = BencodeDecoder()
    guard let value = decoder.value(bytes, depth: 0) else { return nil }
    self = value
  }
}

private struct BencodeDecoder {
  private var index = 0
  private var count = 0

  mutating func value(_ bytes: Span<UInt8>, depth: Int) -> Bencode? {
    count += 1
    guard index < bytes.count, depth < Bencode.depthMax, count <= Bencode.valuesMax else {
      return nil
    }
    switch bytes[index] {
    case UInt8(ascii: "i"):
      index += 1
      return number(bytes, until: UInt8(ascii: "e"), mayBeNegative: true).map { .integer($0) }
    case UInt8(ascii: "0")...UInt8(ascii: "9"):
      return string(bytes).map { .bytes($0) }
    case UInt8(ascii: "l"):
      index += 1
      return list(bytes, depth: depth)
    case UInt8(ascii: "d"):
      index += 1
      return dictionary(bytes, depth: depth)
    default:
      return nil
    }
  }

  private mutating func list(_ bytes: Span<UInt8>, depth: Int) -> Bencode? {
    var values: [Bencode] = []
    while index < bytes.count, bytes[index] != UInt8(ascii: "e") {
      guard let value = value(bytes, depth: depth + 1) else { return nil }
      values.append(value)
    }
    guard index < bytes.count else { return nil }
    index += 1
    return .list(values)
  }

  private mutating func dictionary(_ bytes: Span<UInt8>, depth: Int) -> Bencode? {
    var entries: [[UInt8]: Bencode] = [:]
    while index < bytes.count, bytes[index] != UInt8(ascii: "e") {
      guard let key = string(bytes), let value = value(bytes, depth: depth + 1),
        entries.updateValue(value, forKey: key) == nil
      else { return nil }
    }
    guard index < bytes.count else { return nil }
    index += 1
    return .dictionary(entries)
  }

  private mutating func string(_ bytes: Span<UInt8>) -> [UInt8]? {
    guard let length = number(bytes, until: UInt8(ascii: ":"), mayBeNegative: false),
      length <= Int64(bytes.count - index)
    else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(Int(length))
    for _ in 0..<length {
      result.append(bytes[index])
      index += 1
    }
    return result
  }

  /// Decimal digits without leading zeros and without a negative zero.
  private mutating func number(
    _ bytes: Span<UInt8>, until end: UInt8, mayBeNegative: Bool
  ) -> Int64? {
    var isNegative = false
    if mayBeNegative, index < bytes.count, bytes[index] == UInt8(ascii: "-") {
      isNegative = true
      index += 1
    }
    let start = index
    var value: Int64 = 0
    while index < bytes.count, bytes[index] &- 0x30 < 10 {
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
    guard digits > 0, index < bytes.count, bytes[index] == end else { return nil }
    if bytes[start] == 0x30, digits > 1 || isNegative { return nil }
    index += 1
    return value
  }
}
