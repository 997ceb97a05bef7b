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
  let start = ContinuousClock.now
  private let last: Mutex<ContinuousClock.Instant>

  init(_ duration: Duration) { last = Mutex(start + duration) }

  var end: ContinuousClock.Instant { last.withLock(\.self) }

  func endNow() { last.withLock { $0 = min($0, .now) } }
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
      guard due < time.end else { return result }
      try? await Task.sleep(until: due, clock: .continuous)
      guard ContinuousClock.now < time.end else { return result }
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
