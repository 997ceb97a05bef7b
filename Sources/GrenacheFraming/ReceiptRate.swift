/// The rate at which the bytes of something announced have to come, so that nobody holds memory by
/// sending it a byte at a time.
package struct ReceiptRate: Hashable, Sendable {
  /// For how long nothing is asked for.
  package var grace: Duration
  /// How much has to come then, a second, on the whole.
  package var bytesPerSecondMin: Int

  package init(grace: Duration, bytesPerSecondMin: Int) {
    self.grace = grace
    self.bytesPerSecondMin = bytesPerSecondMin
  }

  /// Whether `received` bytes in `elapsed` are too few.
  package func isTooSlow(_ received: Int, after elapsed: Duration) -> Bool {
    guard elapsed >= grace else { return false }
    let (seconds, attoseconds) = (elapsed - grace).components
    let time = Double(seconds) + Double(attoseconds) / 1e18
    return Double(received) < max(1, time * Double(bytesPerSecondMin))
  }
}
