/// Where a subscriber is in what one publisher says: which run of it, and up to which number. It decides
/// what to ask for after a loss, and which messages are missing.
package struct PublisherCursor: Hashable, Sendable {
  /// Messages that are missing.
  package enum Gap: Hashable, Sendable {
    case numbers(ClosedRange<UInt64>)
    /// Nobody knows how many.
    case unknown
  }

  /// Whether numbers that are left out are those of other topics.
  package let hasTopics: Bool
  /// The run of the publisher, once it is known.
  package private(set) var epoch: String?
  /// The last number of that run that has come, or need not come.
  package private(set) var last: UInt64 = 0
  /// Whether the publisher has said everything that it had to say: it went away in order.
  package private(set) var isComplete = true
  /// Whether it has answered on the connection that there is.
  private var isAnswered = false

  package init(hasTopics: Bool) {
    self.hasTopics = hasTopics
  }

  /// Where to go on from: what to ask a publisher for.
  package var after: UInt64? { epoch == nil ? nil : last }

  /// The publisher has said which run this is and which number comes next.
  ///
  /// - Returns: what is missing of the run before, or what this run has said already.
  package mutating func opened(epoch: String, next: UInt64) -> Gap? {
    let wasComplete = isComplete
    isComplete = false
    isAnswered = true
    guard epoch != self.epoch else { return nil }
    let isAnother = self.epoch != nil
    self.epoch = epoch
    last = next - min(next, 1)
    guard isAnother else { return nil }
    guard wasComplete else { return .unknown }
    return last > 0 ? .numbers(1...last) : nil
  }

  /// The publisher has named messages that it gave up.
  package mutating func lost(_ numbers: ClosedRange<UInt64>) -> Gap? {
    guard numbers.upperBound > last else { return nil }
    let first = hasTopics ? numbers.lowerBound : min(numbers.lowerBound, last + 1)
    last = numbers.upperBound
    return .numbers(first...numbers.upperBound)
  }

  /// What comes next cannot be taken. The next time it comes first again: it counts as missing.
  ///
  /// - Returns: its number, which nobody knows with topics.
  package mutating func passedOver() -> Gap? {
    guard isAnswered, !hasTopics, last < .max else { return nil }
    return lost(last + 1...last + 1)
  }

  /// A message with its number has come.
  ///
  /// - Returns: whether it is new, and what is missing before it that nobody has named.
  package mutating func received(_ number: UInt64) -> (isNew: Bool, gap: Gap?) {
    guard number > last else { return (false, nil) }
    let expected = last + 1
    last = number
    guard !hasTopics, number > expected else { return (true, nil) }
    return (true, .numbers(expected...(number - 1)))
  }

  /// The connection has ended.
  ///
  /// - Parameter inOrder: whether the publisher went away in order, and that was read in time. Of one that
  ///   had not answered yet nobody knows which run it was, nor what it had said.
  package mutating func closed(inOrder: Bool) {
    if epoch != nil { isComplete = isAnswered && inOrder }
    isAnswered = false
  }
}
