internal import DequeModule

/// One who waits in a line, and may give up.
package protocol WaitsInLine {
  /// Whether the wait has ended.
  var isOver: Bool { get }
}

extension LoopPromise: WaitsInLine {}

/// Those who wait for something, in the order in which they came. What it costs that one gives up does not
/// depend on how many wait: it stays in the line until its turn, or until half of the line has given up.
package struct WaitingLine<Waiter: WaitsInLine> {
  /// So many of those who have given up may stay in any line.
  private static var goneMax: Int { 16 }

  private var line: Deque<Waiter> = []
  /// Those in the line who have said that they give up, less those who have left it before they said so.
  private var gone = 0

  package init() {}

  /// How many wait: each counts until it has had its turn, or has said that it gives up.
  package var count: Int { line.count - gone }

  package mutating func append(_ waiter: Waiter) { line.append(waiter) }

  /// Gives its place back to one who has had its turn in vain.
  package mutating func prepend(_ waiter: Waiter) { line.prepend(waiter) }

  /// One whose wait is over without a turn says so, once.
  package mutating func giveUp() {
    gone += 1
    guard gone > max(Self.goneMax, line.count / 2) else { return }
    let before = line.count
    line.removeAll(where: \.isOver)
    gone -= before - line.count
  }

  /// The one that has waited longest of those that still do.
  package mutating func popFirst() -> Waiter? {
    while let next = line.popFirst() {
      if !next.isOver { return next }
      gone -= 1
    }
    return nil
  }
}
