/// Where the records of a TLS stream begin and end (RFC 8446 §5.1), whatever they hold.
///
/// With it a handshake can be fed one record at a time, so that no step of it is a long one. It
/// believes every length that it reads: what OpenSSL refuses ends the connection anyway.
package struct TLSRecordBounds {
  static let headerBytes = 5

  private var headerCount = 0
  private var length = 0
  private var bodyCount = 0

  package init() {}

  /// Whether nothing has come of the next record yet.
  package var isBetweenRecords: Bool { headerCount == 0 }

  /// How many bytes there are, at the least, to the end of the record: never 0, at most 65535.
  package var missingBytes: Int {
    headerCount < Self.headerBytes ? Self.headerBytes - headerCount : length - bodyCount
  }

  /// Goes on over `bytes`, which may end anywhere.
  package mutating func advance(over bytes: UnsafeRawBufferPointer) {
    var index = 0
    while index < bytes.count {
      if headerCount < Self.headerBytes {
        // The type and the version come before the length.
        if headerCount >= 3 { length = unsafe length << 8 | Int(bytes[index]) }
        headerCount += 1
        index += 1
      } else {
        let some = min(length - bodyCount, bytes.count - index)
        bodyCount += some
        index += some
      }
      if headerCount == Self.headerBytes, bodyCount == length { self = Self() }
    }
  }
}

/// The first record of a TLS connection, which comes in the clear.
package enum TLSFirstRecord {
  /// More of it than this is not waited for: a client's first flight is seldom as large.
  package static let seenBytesMax = 4 << 10
  /// What a record holds in the clear (RFC 8446 §5.1).
  private static let contentBytesMax = 1 << 14

  /// How many bytes there have to be, from the start on, for the record to be whole. What OpenSSL refuses
  /// by its header alone needs no more than that.
  package static func bytesNeeded(_ start: Span<UInt8>) -> Int {
    let header = TLSRecordBounds.headerBytes
    guard start.count >= header else { return header }
    let length = Int(start[3]) << 8 | Int(start[4])
    guard start[1] == 3, length <= contentBytesMax else { return header }
    return min(header + length, seenBytesMax)
  }
}
