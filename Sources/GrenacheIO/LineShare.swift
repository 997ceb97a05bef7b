/// How much of a turn those get who wait in line for long work.
///
/// One of them has each turn, however short it is: whoever is not in line waits for one at most. Where a
/// turn takes long, by the work of the others, one a turn would keep the line waiting for as long as that
/// lasts (newcomers to a publisher whose messages keep its loop busy): then it gets a part in proportion.
struct LineShare {
  /// The line gets the time that the others have had, divided by this.
  static let divisor: UInt64 = 4

  private let end: MonotonicTime

  /// - Parameters:
  ///   - turnBegan: since when the others have been served.
  ///   - lineBegins: when the first of the line is.
  init(turnBegan: MonotonicTime, lineBegins: MonotonicTime) {
    let others = (lineBegins - turnBegan).wholeNanoseconds
    end = lineBegins + .nanoseconds(Int64(clamping: others / Self.divisor))
  }

  /// Whether the next of the line has to wait for the next turn.
  func isUsedUp(at now: MonotonicTime) -> Bool { now >= end }
}
