import Testing

@testable import GrenacheTLS

@Suite("RFC 8446 §5.1: where records end")
struct TLSRecordBoundsTests {
  /// Two records, one without content between them, and the header of a fourth of the greatest length.
  private static let stream: [UInt8] =
    [22, 3, 1, 0, 3, 1, 2, 3] + [20, 3, 3, 0, 0] + [23, 3, 3, 1, 0]
    + [UInt8](repeating: 9, count: 256)
    + [0x41, 0x41, 0x41, 0xff, 0xff]
  private static let ends = [8, 13, 274]

  @Test("the same, however the bytes are split", arguments: [1, 2, 3, 5, 7, 300])
  func splits(size: Int) {
    var bounds = TLSRecordBounds()
    var position = 0
    while position < Self.stream.count {
      let end = min(position + size, Self.stream.count)
      unsafe Self.stream[position..<end].withUnsafeBytes { unsafe bounds.advance(over: $0) }
      position = end
      #expect(bounds.isBetweenRecords == Self.ends.contains(position))
    }
    #expect(bounds.missingBytes == 65_535)
  }

  @Test("reading no more than what is missing stops at the end of each record")
  func steps() {
    var bounds = TLSRecordBounds()
    var position = 0
    var ends: [Int] = []
    while position < Self.stream.count {
      let end = position + bounds.missingBytes
      #expect(end > position)
      unsafe Self.stream[position..<end].withUnsafeBytes { unsafe bounds.advance(over: $0) }
      position = end
      if bounds.isBetweenRecords { ends.append(position) }
    }
    #expect(ends == Self.ends)
  }
}
