/// How much may come out of compressed bytes: counted as it comes, never believed from a header.
package struct InflateLimits: Hashable, Sendable {
  /// Everything that may come out.
  package var outputBytesMax: Int
  /// How many times the compressed bytes so far may have come out (default 100).
  package var ratioMax: Int
  /// The ratio is looked at whenever so many more bytes have come out (default 64 KiB): not before, since
  /// short and uniform texts compress far better than long ones, and always at the same places, so that it
  /// does not matter in what pieces the input comes.
  package var ratioCheckBytes: Int

  package init(outputBytesMax: Int, ratioMax: Int = 100, ratioCheckBytes: Int = 64 << 10) {
    self.outputBytesMax = outputBytesMax
    self.ratioMax = ratioMax
    self.ratioCheckBytes = max(ratioCheckBytes, 1)
  }

  /// Whether so many bytes may come out of so many, as far as the ratio goes.
  func isPlausible(consumed: Int, produced: Int) -> Bool {
    let (most, overflow) = consumed.multipliedReportingOverflow(by: ratioMax)
    return overflow || produced <= most || produced < ratioCheckBytes
  }
}

/// What went into and came out of one inflation, held against its limits.
struct InflateBudget: Sendable {
  private let limits: InflateLimits
  private var consumed = 0
  private var produced = 0
  private var nextCheck: Int

  init(_ limits: InflateLimits) {
    self.limits = limits
    nextCheck = limits.ratioCheckBytes
  }

  /// How much one step may bring: to the next look at the ratio, or a byte more than is allowed, so that
  /// a step which brings it proves that the input holds too much.
  var stepBytesMax: Int {
    max(min(limits.outputBytesMax.addingSaturated(1), nextCheck) - produced, 1)
  }

  /// Takes note of a step.
  ///
  /// - Throws: `CompressionError` with `tooLarge`.
  mutating func note(consumed more: Int, produced bytes: Int) throws(CompressionError) {
    consumed = consumed.addingSaturated(more)
    produced = produced.addingSaturated(bytes)
    guard produced <= limits.outputBytesMax else {
      throw CompressionError(
        .tooLarge, "more than \(limits.outputBytesMax) bytes when decompressed")
    }
    guard produced >= nextCheck else { return }
    nextCheck = nextCheck.addingSaturated(limits.ratioCheckBytes)
    guard limits.isPlausible(consumed: consumed, produced: produced) else {
      throw CompressionError(.tooLarge, "compressed more than \(limits.ratioMax) times")
    }
  }
}

extension Int {
  /// The sum, or the greatest number in place of an overflow.
  func addingSaturated(_ other: Int) -> Int {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
