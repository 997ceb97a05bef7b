internal import CGrenacheLinux
internal import DequeModule
internal import Glibc

/// The state of one event loop, confined to its thread.
package final class LoopCore {
  /// How many events one call of `epoll_wait` may return.
  static let eventsPerTurn = 1024

  /// The time at which this turn of the loop began.
  package private(set) var now: MonotonicTime

  private let executor: LoopExecutor
  let poller: Poller
  private var timers: TimerWheel
  private var due: [LoopTimer] = []
  /// Every registered source by its descriptor: the reference that keeps it alive.
  private var sources: [Int32: EventSource] = [:]
  /// Sources closed in this turn: events of the turn may still name them.
  private var closed: [EventSource] = []
  private var dirty: [EventSource] = []
  private var patient = Deque<EventSource>()
  private var locals: [ObjectIdentifier: AnyObject] = [:]

  init(executor: LoopExecutor) throws(SystemCallError) {
    self.executor = executor
    now = .now()
    timers = TimerWheel(now: now)
    poller = try Poller(wakeDescriptor: executor.wakeDescriptor)
  }

  // MARK: What the loop offers

  /// The number of descriptors in the loop.
  package var sourceCount: Int { sources.count }

  /// Arms `timer`, anew if it is armed, to fire `duration` after the beginning of this turn.
  package func arm(_ timer: LoopTimer, after duration: Duration) {
    timers.arm(timer, at: now + duration)
  }

  /// Arms `timer`, anew if it is armed, to fire at `deadline`.
  package func arm(_ timer: LoopTimer, at deadline: MonotonicTime) {
    timers.arm(timer, at: deadline)
  }

  /// Disarms `timer` if it is armed.
  package func cancel(_ timer: LoopTimer) {
    timers.cancel(timer)
  }

  /// The loop's one object of a type, made at first use: buffers that its connections share.
  package func local<Local: AnyObject>(_ type: Local.Type, make: () -> Local) -> Local {
    if let known = locals[ObjectIdentifier(type)] as? Local { return known }
    let made = make()
    locals[ObjectIdentifier(type)] = made
    return made
  }

  /// Asks for `turnEnded` to be called on `source` once at the end of this turn.
  package func markDirty(_ source: EventSource) {
    guard !source.isDirty else { return }
    source.isDirty = true
    dirty.append(source)
  }

  /// Puts `source` in line for a call of `turnEnded` that may take long: one source of the line gets
  /// it at the end of each turn, after all others have had what they wait for, and more of them as far
  /// as the line's share of a long turn reaches (`LineShare`).
  package func waitInLine(_ source: EventSource) {
    guard !source.isInLine else { return }
    source.isInLine = true
    patient.append(source)
  }

  /// Runs the jobs that wait on this thread; for worker pools, which start one and need its result.
  package func runJobs() {
    executor.runJobs()
  }

  // MARK: Sources

  func register(_ source: EventSource, interest: EventInterest) throws(SystemCallError) {
    try poller.add(source, interest: interest)
    sources[source.descriptor] = source
  }

  func change(_ source: EventSource, interest: EventInterest) {
    poller.change(source, interest: interest)
  }

  /// Takes `source` out of the epoll set but leaves its descriptor open.
  func forget(_ source: EventSource) {
    poller.forget(source)
    sources[source.descriptor] = nil
    closed.append(source)
  }

  // MARK: The turn

  func run(_ loop: isolated EventLoop) -> Never {
    // A kernel that does not grant the slice might take a longer one for each time that the loop gives way.
    let givesWay = grenache_set_slice(TimeSlice.length.wholeNanoseconds) == 1
    var slice = TimeSlice(began: now, used: grenache_thread_cpu_ns())
    while true {
      let ended = MonotonicTime.now()
      let count = poller.wait(timeoutMs: waitMs(at: ended))
      now = .now()
      if givesWay, slice.isUsedUp(at: now, after: ended, used: grenache_thread_cpu_ns) {
        sched_yield()
        now = .now()
      }
      for index in 0..<count {
        guard let event = unsafe poller.event(at: index) else {
          executor.emptyMailbox()
          continue
        }
        // The loop's tables hold the source until the end of the turn: no retain is needed here.
        unsafe event.source._withUnsafeGuaranteedRef { source in
          if !source.isClosed { unsafe source.ready(event.events, on: loop) }
        }
      }
      fireTimers(loop)
      executor.runJobs()
      endTurn(loop)
    }
  }

  private func waitMs(at time: MonotonicTime) -> Int32 {
    if executor.hasJobs || !dirty.isEmpty || !patient.isEmpty { return 0 }
    guard let check = timers.nextCheck else { return -1 }
    guard check > time else { return 0 }
    return Int32(clamping: (check.nanoseconds - time.nanoseconds + 999_999) / 1_000_000)
  }

  private func fireTimers(_ loop: isolated EventLoop) {
    timers.advance(to: now, due: &due)
    guard !due.isEmpty else { return }
    var firing: [LoopTimer] = []
    swap(&firing, &due)
    for timer in firing { timer.fireIfDue(on: loop) }
    firing.removeAll(keepingCapacity: true)
    swap(&firing, &due)
  }

  private func endTurn(_ loop: isolated EventLoop) {
    var index = 0
    while index < dirty.count {
      let source = dirty[index]
      source.isDirty = false
      if !source.isClosed { source.turnEnded(on: loop) }
      index += 1
    }
    dirty.removeAll(keepingCapacity: true)
    serveLine(loop)
    closed.removeAll(keepingCapacity: true)
  }

  private func serveLine(_ loop: isolated EventLoop) {
    guard !patient.isEmpty else { return }
    let share = LineShare(turnBegan: now, lineBegins: .now())
    while let source = patient.popFirst() {
      source.isInLine = false
      if source.isClosed { continue }
      source.turnEnded(on: loop)
      if share.isUsedUp(at: .now()) { return }
    }
  }
}
