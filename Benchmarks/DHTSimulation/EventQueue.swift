/// What is to happen in a simulation, the earliest first, and in the order in which it was scheduled.
struct EventQueue<Event> {
  /// Plain numbers, so that putting them in order touches no event.
  private struct Entry {
    var due: Int64
    var number: UInt64
    var slot: Int
  }
  /// A binary heap.
  private var entries: [Entry] = []
  private var events: [Event?] = []
  private var freeSlots: [Int] = []
  private var nextNumber: UInt64 = 0

  var nextTime: Int64? { entries.first?.due }

  mutating func schedule(_ event: Event, at due: Int64) {
    let slot = freeSlots.popLast() ?? events.count
    if slot == events.count { events.append(event) } else { events[slot] = event }
    entries.append(Entry(due: due, number: nextNumber, slot: slot))
    nextNumber += 1
    var child = entries.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard precedes(child, parent) else { break }
      entries.swapAt(child, parent)
      child = parent
    }
  }

  mutating func takeNext() -> Event? {
    guard let first = entries.first else { return nil }
    let event = events[first.slot].take()
    freeSlots.append(first.slot)
    let last = entries.removeLast()
    guard !entries.isEmpty else { return event }
    entries[0] = last
    sink()
    return event
  }

  /// Brings the root to its place.
  private mutating func sink() {
    var parent = 0
    while true {
      var least = parent
      for child in (2 * parent + 1)...(2 * parent + 2)
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
