/// How much may come out of compressed bytes: counted as it comes, never believed from a header.
package struct InflateLimits: Hashable, Sendable {
  /// Everything that may come out.
  package var outputBytesMax: Int
  /// How many times the compressed bytes so far may have come out (default 100).
  package var ratioMax: Int
  /// Up to here the ratio does not count: short and uniform texts compress far better than long ones
  /// (default 64 KiB).
  package var ratioFreeBytes: Int

  package init(outputBytesMax: Int, ratioMax: Int = 100, ratioFreeBytes: Int = 64 << 10) {
    self.outputBytesMax = outputBytesMax
    self.ratioMax = ratioMax
    self.ratioFreeBytes = ratioFreeBytes
  }
}

/// What went into and came out of one inflation, held against its limits.
struct InflateBudget: Sendable {
  private let limits: InflateLimits
  private var consumed = 0
  private var produced = 0

  init(_ limits: InflateLimits) {
    self.limits = limits
  }

  /// How much one step may bring: a byte more than is allowed at the most, so that a step which
  /// brings it proves that the input holds too much.
  var stepBytesMax: Int { max(limits.outputBytesMax - produced, 0) &+ 1 }

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
    let (plausible, overflow) = consumed.multipliedReportingOverflow(by: limits.ratioMax)
    guard overflow || produced <= max(plausible, limits.ratioFreeBytes) else {
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
