/// Plaintext that waits to be encrypted and sent, and how much of it has been encrypted already.
///
/// What has been sealed is always a prefix; it is forgotten when it is all there is, or most of it.
struct OutputQueue {
  /// The sealed prefix and what waits behind it. Others append; only this type removes.
  var bytes: [UInt8] = []
  /// How much of `bytes` has been encrypted already.
  private(set) var sealedCount = 0

  /// Bytes that have not been encrypted yet.
  var unsealedCount: Int { bytes.count - sealedCount }

  /// Whether nothing waits to be encrypted.
  var isSealed: Bool { sealedCount == bytes.count }

  /// Whether nothing has been encrypted of what there is.
  var isUnsealed: Bool { sealedCount == 0 }

  /// What is to be encrypted next, at most `count` bytes.
  func next(atMost count: Int) -> Range<Int> {
    sealedCount..<(sealedCount + min(unsealedCount, count))
  }

  /// The next `count` bytes have been encrypted.
  mutating func sealed(_ count: Int) {
    sealedCount += min(max(count, 0), unsealedCount)
  }

  /// Forgets what has been sealed: all of it, or so much that it was at least `count` bytes and half of
  /// what there is.
  ///
  /// - Returns: the memory, once nothing is left in it.
  mutating func forgetSealed(from count: Int) -> [UInt8]? {
    if isSealed { return bytes.capacity > 0 ? removeAll() : nil }
    // A peer that never catches up must not keep what it has been sent.
    if sealedCount >= count, sealedCount * 2 >= bytes.count {
      bytes.removeFirst(sealedCount)
      sealedCount = 0
    }
    return nil
  }

  /// Gives up what waits.
  ///
  /// - Returns: the memory.
  mutating func removeAll() -> [UInt8] {
    let memory = bytes
    bytes = []
    sealedCount = 0
    return memory
  }
}
