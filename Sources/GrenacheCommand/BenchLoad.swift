import Grenache
import Synchronization

/// What a load has measured.
struct BenchResult: Sendable {
  /// Of the calls that were answered.
  var times = LatencyHistogram()
  /// Calls that were answered with an error, or not at all.
  var failures = 0
  /// The first of them, for people.
  var firstFailure: GrenacheError?
  /// Calls that were due and that nobody was free to make.
  var notMade = 0
}

/// From when and how long a load goes on; it may be over sooner than was thought.
final class BenchTime: Sendable {
  private struct State {
    var end: ContinuousClock.Instant
    var nextSleeper = 0
    var sleepers: [Int: Task<Void, Never>] = [:]
  }

  let start = ContinuousClock.now
  private let state: Mutex<State>

  init(_ duration: Duration) { state = Mutex(State(end: start + duration)) }

  var end: ContinuousClock.Instant { state.withLock(\.end) }

  /// How long it has gone on, or is to. The calls that were begun then may take longer.
  var duration: Duration { end - start }

  /// It is over, for those as well who wait for their time.
  func endNow() {
    let sleepers = state.withLock { state in
      state.end = min(state.end, .now)
      defer { state.sleepers = [:] }
      return state.sleepers.values
    }
    for sleeper in sleepers { sleeper.cancel() }
  }

  /// Waits for a point in time.
  ///
  /// - Returns: false if all is over then.
  func wait(until due: ContinuousClock.Instant) async -> Bool {
    guard due < end else { return false }
    guard due > .now else { return .now < end }
    let sleeper = Task { () -> Void in try? await Task.sleep(until: due, clock: .continuous) }
    let number = state.withLock { state in
      state.nextSleeper += 1
      state.sleepers[state.nextSleeper] = sleeper
      return state.nextSleeper
    }
    // It may have ended while nobody knew of the sleeper.
    if due >= end { sleeper.cancel() }
    await sleeper.value
    state.withLock { $0.sleepers[number] = nil }
    return .now < end
  }
}

/// Calls of one kind by several callers.
struct BenchLoad: Sendable {
  let client: PeerRPCClient
  let service: String
  let payload: [UInt8]
  let options: RPCCallOptions

  /// - Parameter rate: calls a second (open loop); `nil` makes each call after the one before it.
  func run(callers: Int, rate: Double?, during time: BenchTime) async -> BenchResult {
    let schedule = rate.map { Schedule(start: time.start, rate: $0) }
    var result = await withTaskGroup(of: BenchResult.self) { group in
      for _ in 0..<callers {
        group.addTask {
          guard let schedule else { return await closedLoop(during: time) }
          return await openLoop(schedule, during: time)
        }
      }
      return await group.reduce(into: BenchResult()) { all, one in
        all.times.add(one.times)
        all.failures += one.failures
        all.firstFailure = all.firstFailure ?? one.firstFailure
      }
    }
    let due = schedule?.count(before: time.end) ?? 0
    result.notMade = max(0, due - result.times.count - result.failures)
    return result
  }

  private func closedLoop(during time: BenchTime) async -> BenchResult {
    var result = BenchResult()
    while true {
      let start = ContinuousClock.now
      guard start < time.end else { return result }
      await call(due: start, &result)
    }
  }

  private func openLoop(
    _ schedule: Schedule, during time: BenchTime
  ) async -> BenchResult {
    var result = BenchResult()
    while true {
      let due = schedule.next()
      guard await time.wait(until: due) else { return result }
      await call(due: due, &result)
    }
  }

  private func call(due: ContinuousClock.Instant, _ result: inout BenchResult) async {
    do throws(GrenacheError) {
      _ = try await client.requestRaw(service, payload, options: options)
    } catch {
      result.failures += 1
      result.firstFailure = result.firstFailure ?? error
      return
    }
    let (seconds, attoseconds) = (ContinuousClock.now - due).components
    result.times.add(microseconds: Double(seconds) * 1e6 + Double(attoseconds) / 1e12)
  }
}

/// When calls are due: whoever is free takes the next, so that one slow answer holds up no other.
private final class Schedule: Sendable {
  private let start: ContinuousClock.Instant
  private let interval: Duration
  private let taken = Atomic<Int>(0)

  init(start: ContinuousClock.Instant, rate: Double) {
    self.start = start
    interval = .seconds(1 / rate)
  }

  func next() -> ContinuousClock.Instant {
    let number = taken.wrappingAdd(1, ordering: .relaxed).oldValue
    return start + interval * number
  }

  /// How many calls are due before `end`.
  func count(before end: ContinuousClock.Instant) -> Int {
    Int(((end - start) / interval).rounded(.up))
  }
}
