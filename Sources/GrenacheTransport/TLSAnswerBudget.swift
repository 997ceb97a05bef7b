/// What TLS itself has answered (to key updates, RFC 8446 §4.6.3) since the peer last took everything.
///
/// It is no output of the stream's user: back-pressure does not stop a client from reading what makes it
/// grow.
struct TLSAnswerBudget {
  /// Bytes of answers that may wait for a peer.
  static let bytesMax = 64 << 10

  private var bytes = 0

  /// So many bytes more wait.
  ///
  /// - Returns: whether they are still few enough.
  mutating func spend(_ count: Int) -> Bool {
    bytes += count
    return bytes <= Self.bytesMax
  }

  /// The peer has taken everything.
  mutating func refill() {
    bytes = 0
  }
}
