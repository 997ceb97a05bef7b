package import GrenacheIO

/// The calls of one connection that are being answered or wait for it, so that they can be cancelled.
///
/// Each has a place of its own until it ends, so that beginning and ending one costs the same however
/// many there are.
@safe
package struct RunningCalls {
  @safe
  private struct Entry {
    var rid: [UInt8]
    var deadline: MonotonicTime?
    /// The task that runs the handler, once it has begun; it outlives the call.
    var task: UnsafeCurrentTask?
    var isRunning = true
    var isCancelled = false
  }
  private var entries: [Entry] = []
  /// The places that are not taken.
  private var free: [Int] = []

  package init() {}

  package var count: Int { entries.count - free.count }

  /// The earliest deadline that is still to come.
  package func nextDeadline(after now: MonotonicTime) -> MonotonicTime? {
    var next: MonotonicTime?
    for entry in entries where entry.isRunning {
      guard let deadline = entry.deadline, deadline > now else { continue }
      next = min(next ?? deadline, deadline)
    }
    return next
  }

  /// Notes a call; its place names it until `end`.
  package mutating func add(_ rid: [UInt8], deadline: MonotonicTime?) -> Int {
    let entry = unsafe Entry(rid: rid, deadline: deadline, task: nil)
    guard let place = free.popLast() else {
      entries.append(entry)
      return entries.count - 1
    }
    entries[place] = entry
    return place
  }

  /// Whether there is a point in beginning: nobody has cancelled the call, and it is not too late.
  package func mayBegin(_ place: Int, at now: MonotonicTime) -> Bool {
    guard !entries[place].isCancelled else { return false }
    return entries[place].deadline.map { $0 > now } ?? true
  }

  /// The handler is about to run in the current task; `false` when there is no point in it any more.
  package mutating func begin(_ place: Int, at now: MonotonicTime) -> Bool {
    guard mayBegin(place, at: now) else { return false }
    unsafe entries[place].task = withUnsafeCurrentTask { unsafe $0 }
    return true
  }

  /// The handler has returned; whether its answer is still wanted.
  package mutating func end(_ place: Int) -> Bool {
    let isWanted = !entries[place].isCancelled
    // A connection lives longer than its calls: of them it keeps nothing, and after many not their places.
    entries[place] = unsafe Entry(rid: [], deadline: nil, task: nil, isRunning: false)
    free.append(place)
    if free.count == entries.count, entries.count > Self.freePlacesMax {
      entries = []
      free = []
    }
    return isWanted
  }

  /// The places that are kept while no call is under way.
  private static let freePlacesMax = 64

  /// What is held for the calls, in bytes of their identifiers and in places.
  package var held: (identifierBytes: Int, places: Int) {
    (entries.reduce(0) { $0 + $1.rid.count }, entries.count)
  }

  /// Whether the call of that place, which has not ended, has been cancelled.
  func isCancelled(_ place: Int) -> Bool { entries[place].isCancelled }

  /// Cancels the call of that identifier.
  package mutating func cancel(_ rid: Span<UInt8>) {
    for place in entries.indices where entries[place].isRunning {
      let known = entries[place].rid
      if known.span.equals(rid) { cancel(at: place) }
    }
  }

  /// Cancels the calls whose deadline has passed.
  package mutating func cancelLate(at now: MonotonicTime) {
    for place in entries.indices where entries[place].isRunning {
      if let deadline = entries[place].deadline, deadline <= now { cancel(at: place) }
    }
  }

  package mutating func cancelAll() {
    for place in entries.indices where entries[place].isRunning { cancel(at: place) }
  }

  private mutating func cancel(at place: Int) {
    guard !entries[place].isCancelled else { return }
    entries[place].isCancelled = true
    unsafe entries[place].task?.cancel()
  }
}
