/// How many calls may be sent again: a share of those that are made, so that workers in trouble do not
/// get more of it.
package struct RetryBudget: Hashable, Sendable {
  /// In hundredths of a retry.
  private var tokens: Int
  private let perCall: Int
  private let tokensMax: Int

  /// - Parameters:
  ///   - ratio: retries for each call, 0.1 for ten in a hundred.
  ///   - burstMax: the retries that may be saved up, and with which a client begins.
  package init(ratio: Double, burstMax: Int) {
    perCall = Int((min(max(ratio, 0), 1) * 100).rounded())
    tokensMax = min(max(burstMax, 0), 1_000_000) * 100
    tokens = tokensMax
  }

  /// Notes a call.
  package mutating func deposit() {
    tokens = min(tokens + perCall, tokensMax)
  }

  /// Takes one retry; `false` when there is none left.
  package mutating func withdraw() -> Bool {
    guard tokens >= 100 else { return false }
    tokens -= 100
    return true
  }
}
