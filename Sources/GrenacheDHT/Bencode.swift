/// A value of bencoding (BEP 3), as a tree: for what people put and get. Messages are read in place
/// by `BencodeReader`.
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
      output.append(bencoded: value)
    case .bytes(let value):
      output.append(bencoded: value)
    case .list(let values):
      output.append(UInt8(ascii: "l"))
      for value in values { value.encode(to: &output) }
      output.append(UInt8(ascii: "e"))
    case .dictionary(let entries):
      output.append(UInt8(ascii: "d"))
      for (key, value) in entries.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        output.append(bencoded: key)
        value.encode(to: &output)
      }
      output.append(UInt8(ascii: "e"))
    }
  }
}

// MARK: Decoding

extension Bencode {
  /// How many values one message may hold; a full answer of an existing node has a few hundred.
  static let valuesMax = 2_048

  /// Decodes the value at the start of `bytes`. Unsorted keys and bytes behind the value are accepted,
  /// as existing nodes do; a key that comes twice is not.
  package init?(decoding bytes: Span<UInt8>) {
    var reader = BencodeReader(0..<bytes.count)
    var count = 0
    guard let field = reader.value(bytes), let value = Self.tree(of: field, bytes, &count) else {
      return nil
    }
    self = value
  }

  /// `field` has been checked to its end, and its depth is bounded.
  private static func tree(
    of field: BencodeField, _ bytes: Span<UInt8>, _ count: inout Int
  ) -> Bencode? {
    count += 1
    guard count <= valuesMax else { return nil }
    var reader = BencodeReader(field.content)
    switch field.kind {
    case .integer(let value):
      return .integer(value)
    case .bytes:
      return .bytes(bytes.copy(field.content))
    case .list:
      var values: [Bencode] = []
      while !reader.isAtEnd {
        guard let next = reader.value(bytes), let value = tree(of: next, bytes, &count) else {
          return nil
        }
        values.append(value)
      }
      return .list(values)
    case .dictionary:
      var entries: [[UInt8]: Bencode] = [:]
      while !reader.isAtEnd {
        guard let (key, next) = reader.entry(bytes), let value = tree(of: next, bytes, &count),
          entries.updateValue(value, forKey: bytes.copy(key)) == nil
        else { return nil }
      }
      return .dictionary(entries)
    }
  }
}

extension Span<UInt8> {
  /// A copy of a part.
  func copy(_ range: Range<Int>) -> [UInt8] {
    var result: [UInt8] = []
    result.append(self, range)
    return result
  }
}
