/// Small operations on borrowed bytes that the framers and their users share.
extension Span<UInt8> {
  /// Whether the bytes are those of `other`.
  @inline(__always)
  package func equals(_ other: Span<UInt8>) -> Bool {
    guard count == other.count else { return false }
    for index in indices where self[index] != other[index] { return false }
    return true
  }

  /// Whether the bytes are those of `text`, letters in either case; `text` is ASCII in lower case.
  @inline(__always)
  package func equalsIgnoringCase(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    let expected = unsafe text.utf8Start
    // As many bytes as the text has, which was just compared.
    for index in indices
    where unsafe HTTPCharacters.lowercased(self[index]) != expected[index] { return false }
    return true
  }

  /// Appends a copy of the bytes to `array`.
  @inline(__always)
  package func append(to array: inout [UInt8]) {
    unsafe withUnsafeBufferPointer { unsafe array.append(contentsOf: $0) }
  }

  /// A copy of the bytes.
  @inline(__always)
  package func copy() -> [UInt8] {
    unsafe withUnsafeBufferPointer { unsafe Array($0) }
  }

  /// The bytes as UTF-8, with what is not UTF-8 replaced.
  package func string() -> String {
    unsafe withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
  }
}
