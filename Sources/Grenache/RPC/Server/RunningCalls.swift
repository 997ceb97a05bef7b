internal import GrenacheIO

/// The calls of one connection that are being answered, so that they can be cancelled.
///
/// They are few, and most end in the order opposite to that in which they began.
@safe
struct RunningCalls {
  @safe
  private struct Entry {
    let number: UInt64
    let rid: [UInt8]
    let deadline: MonotonicTime?
    /// The task that runs the handler, once it has begun; it outlives the entry.
    var task: UnsafeCurrentTask?
    var isCancelled = false
  }
  private var entries: [Entry] = []
  private var lastNumber: UInt64 = 0

  var count: Int { entries.count }

  /// The earliest deadline.
  var nextDeadline: MonotonicTime? { entries.lazy.compactMap(\.deadline).min() }

  /// The earliest deadline that is still to come.
  func nextDeadline(after now: MonotonicTime) -> MonotonicTime? {
    entries.lazy.compactMap(\.deadline).filter { $0 > now }.min()
  }

  /// Notes a call; the number names it from now on.
  mutating func add(_ rid: [UInt8], deadline: MonotonicTime?) -> UInt64 {
    lastNumber &+= 1
    unsafe entries.append(Entry(number: lastNumber, rid: rid, deadline: deadline))
    return lastNumber
  }

  /// The handler is about to run in the current task; `false` when there is no point in it any more.
  mutating func begin(_ number: UInt64, at now: MonotonicTime) -> Bool {
    guard let index = index(of: number), !entries[index].isCancelled else { return false }
    if let deadline = entries[index].deadline, deadline <= now { return false }
    unsafe entries[index].task = withUnsafeCurrentTask { unsafe $0 }
    return true
  }

  /// The handler has returned; whether its answer is still wanted.
  mutating func end(_ number: UInt64) -> Bool {
    guard let index = index(of: number) else { return false }
    let isWanted = !entries[index].isCancelled
    let last = entries.removeLast()
    if index < entries.count { entries[index] = last }
    return isWanted
  }

  /// Cancels the call of that identifier.
  mutating func cancel(_ rid: Span<UInt8>) {
    for index in entries.indices {
      let known = entries[index].rid
      if known.span.equals(rid) { cancel(at: index) }
    }
  }

  /// Cancels the calls whose deadline has passed.
  mutating func cancelLate(at now: MonotonicTime) {
    for index in entries.indices {
      if let deadline = entries[index].deadline, deadline <= now { cancel(at: index) }
    }
  }

  mutating func cancelAll() {
    for index in entries.indices { cancel(at: index) }
  }

  private mutating func cancel(at index: Int) {
    guard !entries[index].isCancelled else { return }
    entries[index].isCancelled = true
    unsafe entries[index].task?.cancel()
  }

  private func index(of number: UInt64) -> Int? {
    entries.lastIndex { $0.number == number }
  }
}
