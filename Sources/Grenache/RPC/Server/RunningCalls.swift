package import GrenacheIO

/// The calls of one connection that are being answered or wait for it, so that they can be cancelled.
///
/// Each has a place of its own until it ends, so that beginning and ending one costs the same however
/// many there are.
@safe
package struct RunningCalls {
  /// Who waits for the answer of a call.
  package enum Answer: Sendable {
    case wanted
    /// Its time was over: the caller's clock may disagree, so that it is told.
    case late
    /// The caller has cancelled it, or is gone.
    case unwanted
  }

  @safe
  private struct Entry {
    var rid: [UInt8]
    /// Of the identifier, so that one is found among many without looking at the others; the process has keys
    /// of its own for it.
    var ridHash: Int
    var deadline: MonotonicTime?
    /// The task that runs the handler, once it has begun; it outlives the call.
    var task: UnsafeCurrentTask?
    var isRunning = true
    var answer = Answer.wanted
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
    let entry = unsafe Entry(rid: rid, ridHash: rid.hashValue, deadline: deadline, task: nil)
    guard let place = free.popLast() else {
      entries.append(entry)
      return entries.count - 1
    }
    entries[place] = entry
    return place
  }

  /// Whether there is a point in beginning: nobody has cancelled the call, and it is not too late.
  package func mayBegin(_ place: Int, at now: MonotonicTime) -> Bool {
    guard entries[place].answer == .wanted else { return false }
    return entries[place].deadline.map { $0 > now } ?? true
  }

  /// The handler is about to run in the current task; `false` when there is no point in it any more.
  package mutating func begin(_ place: Int, at now: MonotonicTime) -> Bool {
    guard mayBegin(place, at: now) else { return false }
    unsafe entries[place].task = withUnsafeCurrentTask { unsafe $0 }
    return true
  }

  /// The handler has returned, or will not begin.
  package mutating func end(_ place: Int) -> Answer {
    let answer = entries[place].answer
    // A connection lives longer than its calls: of them it keeps nothing, and after many not their places.
    entries[place] = unsafe Entry(rid: [], ridHash: 0, deadline: nil, task: nil, isRunning: false)
    free.append(place)
    if free.count == entries.count, entries.count > Self.freePlacesMax {
      entries = []
      free = []
    }
    return answer
  }

  /// The places that are kept while no call is under way.
  private static let freePlacesMax = 64

  /// What is held for the calls, in bytes of their identifiers and in places.
  package var held: (identifierBytes: Int, places: Int) {
    (entries.reduce(0) { $0 + $1.rid.count }, entries.count)
  }

  /// Whether the call of that place, which has not ended, has been cancelled by its caller or its deadline.
  package func isCancelled(_ place: Int) -> Bool { entries[place].answer != .wanted }

  /// Cancels the calls of that identifier.
  ///
  /// - Returns: whether there is one that was wanted until now.
  @discardableResult
  package mutating func cancel(_ rid: [UInt8]) -> Bool {
    let hash = rid.hashValue
    var hasCancelled = false
    for place in entries.indices
    where entries[place].ridHash == hash && entries[place].isRunning && entries[place].rid == rid {
      if entries[place].answer == .wanted { hasCancelled = true }
      cancel(at: place, .unwanted)
    }
    return hasCancelled
  }

  /// Cancels the calls whose deadline has passed.
  package mutating func cancelLate(at now: MonotonicTime) {
    for place in entries.indices where entries[place].isRunning {
      if let deadline = entries[place].deadline, deadline <= now { cancel(at: place, .late) }
    }
  }

  package mutating func cancelAll() {
    for place in entries.indices where entries[place].isRunning { cancel(at: place, .unwanted) }
  }

  private mutating func cancel(at place: Int, _ answer: Answer) {
    // Who has cancelled a call is not told that it is late, whichever comes first.
    guard entries[place].answer != .unwanted else { return }
    let isFirst = entries[place].answer == .wanted
    entries[place].answer = answer
    if isFirst { unsafe entries[place].task?.cancel() }
  }
}
