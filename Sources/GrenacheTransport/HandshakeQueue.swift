internal import DequeModule
internal import GrenacheIO

/// Who of a loop's newcomers shakes hands, who waits for that, and who makes room: the decision alone.
///
///     silent → waiting → shaking hands → gone
///
/// A place among those who shake hands is given for a whole record, not for a connection: to connect and
/// say nothing costs a stranger nothing, and may not keep out those who do speak.
struct HandshakeQueue {
  /// A newcomer, by the order in which they came.
  typealias Number = UInt64

  enum Action: Hashable {
    /// Its turn has come.
    case begin(Number)
    /// It has waited for too long.
    case giveUp(Number)
    /// It has a place and says nothing, while another waits for one.
    case makeRoom(Number)
  }

  private let silentMax: Int
  private let shakingMax: Int
  private let waitMax: Duration
  private let quietMax: Duration

  private var lastNumber: Number = 0
  private var silent = ArrivalOrder()
  private var waiting: Deque<(number: Number, deadline: MonotonicTime)> = []
  private var shaking: Set<Number> = []
  /// Those found to make room, the one that has been quiet for longest at the end.
  private var overdue: [Number] = []
  /// When it is worth looking for somebody who makes room.
  private var nextSearch: MonotonicTime?

  /// - Parameters:
  ///   - silentMax: newcomers of whom nothing whole has come, at least 1.
  ///   - shakingMax: those who shake hands at once.
  ///   - waitMax: how long one waits for its turn.
  ///   - quietMax: how long one with a place may be waited for, in all, while others wait.
  init(silentMax: Int, shakingMax: Int, waitMax: Duration, quietMax: Duration) {
    self.silentMax = max(1, silentMax)
    self.shakingMax = shakingMax
    self.waitMax = waitMax
    self.quietMax = quietMax
  }

  /// A connection has come. The oldest that has said nothing makes room for one too many.
  mutating func arrived() -> (number: Number, crowdedOut: Number?) {
    lastNumber &+= 1
    let crowdedOut = silent.count >= silentMax ? silent.popOldest() : nil
    silent.append(lastNumber)
    return (lastNumber, crowdedOut)
  }

  /// The first record of a newcomer is there.
  mutating func spoke(_ number: Number, at now: MonotonicTime) {
    silent.remove(number)
    waiting.append((number, now + waitMax))
  }

  /// A newcomer is gone or does not want to shake hands, or its handshake is over.
  mutating func left(_ number: Number) {
    silent.remove(number)
    shaking.remove(number)
  }

  /// Forgets those who wait.
  mutating func forgetWaiting() {
    waiting = []
  }

  /// What there is to do now; to be asked until there is nothing more.
  ///
  /// - Parameter quietSince: since when somebody who shakes hands has been waited for, as if all waits had been
  ///   one; `nil` while it waits for this side.
  mutating func next(
    at now: MonotonicTime, quietSince: (Number) -> MonotonicTime?
  ) -> Action? {
    guard let first = waiting.first else {
      overdue = []
      return nil
    }
    if shaking.count < shakingMax {
      waiting.removeFirst()
      shaking.insert(first.number)
      return .begin(first.number)
    }
    if first.deadline <= now {
      waiting.removeFirst()
      return .giveUp(first.number)
    }
    if overdue.isEmpty, nextSearch.map({ $0 <= now }) ?? true { search(at: now, quietSince) }
    while let number = overdue.popLast() {
      if shaking.remove(number) != nil { return .makeRoom(number) }
    }
    return nil
  }

  /// When to ask again, if nothing happens until then.
  var nextLook: MonotonicTime? {
    waiting.first.map { min($0.deadline, nextSearch ?? $0.deadline) }
  }

  /// Looks for as many to make room as there are who wait; nobody is due before `nextSearch` then.
  private mutating func search(
    at now: MonotonicTime, _ quietSince: (Number) -> MonotonicTime?
  ) {
    var soonest = now + quietMax
    var found: [(number: Number, since: MonotonicTime)] = []
    for number in shaking {
      guard let since = quietSince(number) else { continue }
      if since + quietMax <= now {
        found.append((number, since))
      } else {
        soonest = min(soonest, since + quietMax)
      }
    }
    found.sort { ($0.since, $0.number) < ($1.since, $1.number) }
    overdue = found.prefix(waiting.count).map(\.number).reversed()
    nextSearch = found.count > waiting.count ? now : soonest
  }
}

/// Numbers in the order in which they came, any of which may go.
private struct ArrivalOrder {
  private var order: Deque<UInt64> = []
  private var present: Set<UInt64> = []

  var count: Int { present.count }

  mutating func append(_ number: UInt64) {
    order.append(number)
    present.insert(number)
  }

  mutating func remove(_ number: UInt64) {
    guard present.remove(number) != nil else { return }
    while let first = order.first, !present.contains(first) { order.removeFirst() }
    // Behind one that stays for long, those that have gone must not pile up.
    if order.count > 2 * present.count + 64 { order.removeAll { !present.contains($0) } }
  }

  mutating func popOldest() -> UInt64? {
    while let first = order.popFirst() {
      if present.remove(first) != nil { return first }
    }
    return nil
  }
}
