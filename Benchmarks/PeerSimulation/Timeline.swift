internal import GrenacheIO
internal import TestSupport

/// Virtual time: what is to happen, the earliest first, and in the order in which it was said.
final class Timeline {
  private struct Entry {
    var due: UInt64
    var number: UInt64
    var action: () -> Void
  }
  /// A binary heap.
  private var entries: [Entry] = []
  private var lastNumber: UInt64 = 0
  private(set) var now = MonotonicTime(nanoseconds: 1_000_000_000)
  var generator: SeededGenerator
  /// Equal seeds give equal digests.
  private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325

  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  func note(_ value: Int) {
    digest = (digest ^ UInt64(truncatingIfNeeded: value)) &* 0x100_0000_01b3
    digest = (digest ^ now.nanoseconds) &* 0x100_0000_01b3
  }

  func random(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }

  func chance(_ percent: Int) -> Bool { random(0...99) < percent }

  func milliseconds(_ range: ClosedRange<Int>) -> Duration {
    .microseconds(random(range.lowerBound * 1_000...range.upperBound * 1_000))
  }

  func after(_ time: Duration, _ action: @escaping () -> Void) { at(now + time, action) }

  func at(_ due: MonotonicTime, _ action: @escaping () -> Void) {
    lastNumber += 1
    let due = max(due, now).nanoseconds
    entries.append(Entry(due: due, number: lastNumber, action: action))
    var child = entries.count - 1
    while child > 0, precedes(child, (child - 1) / 2) {
      entries.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  /// Lets time pass.
  func run(for time: Duration) {
    let end = now + time
    while let first = entries.first, first.due <= end.nanoseconds {
      removeFirst()
      now = MonotonicTime(nanoseconds: first.due)
      first.action()
    }
    now = end
  }

  /// Forgets what is still to happen, and with it who would do it.
  func clear() { entries = [] }

  private func removeFirst() {
    let last = entries.removeLast()
    guard !entries.isEmpty else { return }
    entries[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < entries.count && precedes(child, least) {
        least = child
      }
      guard least != parent else { return }
      entries.swapAt(parent, least)
      parent = least
    }
  }

  private func precedes(_ left: Int, _ right: Int) -> Bool {
    (entries[left].due, entries[left].number) < (entries[right].due, entries[right].number)
  }
}
