import Glibc
import Synchronization
import TestSupport
import Testing

@testable import GrenacheIO

@Suite("Event loop", .timeLimit(.minutes(1)))
struct EventLoopTests {
  @Test("code on a loop runs on its thread, whoever enters")
  func isolation() async throws {
    let loop = try EventLoopGroup.shared().next()
    await withTaskGroup(of: Int.self) { group in
      for number in 0..<1_000 {
        group.addTask {
          await loop.run { loop in
            loop.preconditionIsolated()
            return number
          }
        }
      }
      var sum = 0
      for await number in group { sum += number }
      #expect(sum == 499_500)
    }
  }

  @Test("a group hands out its loops in turn")
  func turns() throws {
    let group = try EventLoopGroup(count: 3)
    let drawn = (0..<6).map { _ in group.next() }
    #expect(Set(drawn.map(ObjectIdentifier.init)).count == 3)
    #expect(drawn[0] === drawn[3])
  }

  @Test("a loop's local object is made once for each loop")
  func locals() async throws {
    final class Local {}
    let group = try EventLoopGroup(count: 2)
    var made: Set<ObjectIdentifier> = []
    for loop in group.loops + group.loops {
      made.insert(
        await loop.run { loop in ObjectIdentifier(loop.core.local(Local.self) { Local() }) })
    }
    #expect(made.count == 2)
  }

  @Test("timers fire in time, and not when cancelled")
  func timers() async throws {
    let loop = try EventLoopGroup.shared().next()
    let (fired, early) = await Self.fireAndCancel(on: loop)
    #expect(fired == [true, false])
    #expect(!early)
  }

  private static func fireAndCancel(on loop: isolated EventLoop) async -> ([Bool], early: Bool) {
    let one = LoopPromise<Void>()
    let other = LoopTimer()
    let start = MonotonicTime.now()
    loop.core.arm(other, at: start + .milliseconds(15))
    loop.core.cancel(other)
    let outcome = await one.wait(until: start + .milliseconds(20), on: loop)
    guard case .timedOut = outcome else { return ([false, other.isArmed], false) }
    return ([true, other.isArmed], MonotonicTime.now() < start + .milliseconds(20))
  }
}

@Suite("The line for long work", .timeLimit(.minutes(1)))
struct LoopLineTests {
  /// Notes when its turn comes, and has another served before the next of the line.
  private final class Source: EventSource {
    private let name: String
    private let log: Log
    private let follower: Source?

    init(_ name: String, _ log: Log, follower: Source? = nil) {
      self.name = name
      self.log = log
      self.follower = follower
      super.init(descriptor: open("/dev/null", O_RDONLY | O_CLOEXEC))
    }

    override func turnEnded(on loop: isolated EventLoop) {
      log.names.append(name)
      if let follower { loop.core.markDirty(follower) }
      if name == log.last { log.ended.fulfil(log.names, on: loop) }
    }
  }

  private final class Log {
    var names: [String] = []
    let last: String
    let ended = LoopPromise<[String]>()
    init(last: String) { self.last = last }
  }

  @Test("the line is served in order, after all that is short; who has closed loses its place")
  func line() async throws {
    let loop = try EventLoopGroup.shared().next()
    let names = await Self.serve(on: loop)
    #expect(names.filter { $0 != "short" } == ["a", "c", "d"])
    // How many of the line a turn has depends on how long the turn is.
    #expect(names.starts(with: ["short", "a"]))
  }

  @Test(
    "P3 P37 of a short turn the line has one, of a long one a quarter of the others' time",
    arguments: [(0, 0, true), (400, 0, false), (400, 99, false), (400, 100, true)])
  func share(_ others: Int, _ line: Int, _ isUsedUp: Bool) {
    let began = MonotonicTime(nanoseconds: 1_000_000_000)
    let lineBegins = began + .microseconds(others)
    let share = LineShare(turnBegan: began, lineBegins: lineBegins)
    #expect(share.isUsedUp(at: lineBegins + .microseconds(line)) == isUsedUp)
  }

  @Test("P37 a turn that others have made long serves more than one of the line")
  func longTurn() async throws {
    // A loop of its own, since it is kept busy.
    let loop = try EventLoopGroup(count: 1).next()
    #expect(await Self.serveAfterLongWork(on: loop) == ["a", "b", "c", "short"])
  }

  private static func serveAfterLongWork(on loop: isolated EventLoop) async -> [String] {
    let log = Log(last: "short")
    let short = Source("short", log)
    for name in ["a", "b", "c"] { loop.core.waitInLine(Source(name, log, follower: short)) }
    // A quarter of that: three that are short have room in it.
    let end = MonotonicTime.now() + .milliseconds(800)
    while MonotonicTime.now() < end {}
    guard case .value(let names) = await log.ended.wait(until: .now() + .seconds(20), on: loop)
    else { return [] }
    return names
  }

  private static func serve(on loop: isolated EventLoop) async -> [String] {
    let log = Log(last: "d")
    let short = Source("short", log)
    let line = ["a", "b", "c", "d"].map { Source($0, log, follower: short) }
    for source in line + line { loop.core.waitInLine(source) }
    loop.core.markDirty(short)
    line[1].closeDescriptor(on: loop)
    guard case .value(let names) = await log.ended.wait(until: .now() + .seconds(5), on: loop)
    else { return [] }
    return names
  }
}

@Suite("Promises on a loop", .timeLimit(.minutes(1)))
struct LoopPromiseTests {
  private static func wait(
    _ promise: LoopBound<LoopPromise<Int>>, for time: Duration, on loop: isolated EventLoop
  ) async -> LoopPromise<Int>.Outcome {
    await promise.get(on: loop).wait(until: .now() + time, on: loop)
  }

  private func make(on loop: EventLoop) async -> LoopBound<LoopPromise<Int>> {
    await loop.run { loop in LoopBound(LoopPromise<Int>(), on: loop) }
  }

  @Test("every one of many waits, begun by tasks elsewhere, gets its own value")
  func contention() async throws {
    let loop = try EventLoopGroup.shared().next()
    let wrong = await withTaskGroup(of: Int.self) { group in
      for task in 0..<64 {
        group.addTask {
          var wrong = 0
          for round in 0..<200 {
            let promise = await make(on: loop)
            async let outcome = Self.wait(promise, for: .seconds(20), on: loop)
            await loop.run { loop in
              promise.get(on: loop).fulfil(task * 1_000 + round, on: loop)
            }
            if case .value(task * 1_000 + round) = await outcome {} else { wrong += 1 }
          }
          return wrong
        }
      }
      return await group.reduce(0, +)
    }
    #expect(wrong == 0)
  }

  @Test("the first outcome wins; what comes later is dropped")
  func first() async throws {
    let loop = try EventLoopGroup.shared().next()
    let promise = await make(on: loop)
    await loop.run { loop in
      promise.get(on: loop).fulfil(1, on: loop)
      promise.get(on: loop).fulfil(2, on: loop)
    }
    guard case .value(1) = await Self.wait(promise, for: .zero, on: loop) else {
      Issue.record("not the first value")
      return
    }
  }

  @Test("a wait ends when its task is cancelled, before or during it", arguments: [true, false])
  func cancellation(before: Bool) async throws {
    let loop = try EventLoopGroup.shared().next()
    let promise = await make(on: loop)
    let task = Task {
      if before { withUnsafeCurrentTask { $0?.cancel() } }
      return await Self.wait(promise, for: .seconds(20), on: loop)
    }
    if !before {
      await loop.run { _ in }
      task.cancel()
    }
    guard case .cancelled = await task.value else {
      Issue.record("not cancelled")
      return
    }
  }
}

@Suite("Worker pool", .timeLimit(.minutes(1)))
struct WorkerPoolTests {
  private final class Log {
    var started: [Int] = []
    var ended: [Int] = []
    var gate = LoopPromise<Void>()
  }

  private struct Work: LoopWork {
    let number: Int
    let suspends: Bool
    let log: Log

    func run(on loop: isolated EventLoop) async {
      log.started.append(number)
      if suspends { _ = await log.gate.wait(until: .now() + .seconds(20), on: loop) }
      log.ended.append(number)
    }
  }

  @Test("work starts in order, and what suspends holds up nothing", arguments: [false, true])
  func order(insideAJob: Bool) async throws {
    let loop = try EventLoopGroup.shared().next()
    let log = await loop.run { loop in LoopBound(Log(), on: loop) }
    let pool = await loop.run { loop in LoopBound(WorkerPool<Work>.of(loop), on: loop) }
    // Twice: first with new tasks, then with those that are parked.
    for _ in 0..<2 {
      await Self.fill(pool, log, insideAJob: insideAJob, on: loop)
      let (started, ended) = try await Self.finish(log, on: loop)
      #expect(started == Array(0..<10))
      #expect(ended == [0, 1, 2, 4, 5, 6, 7, 8, 9])
    }
  }

  private struct FarWork: LoopWork {
    let begun: LoopBound<Count>
    func run(on loop: isolated EventLoop) async {
      let count = begun.get(on: loop)
      count.begun += 1
      if count.begun == count.expected { count.all.fulfil((), on: loop) }
      // It comes back from another thread: its worker parks only after more than one hop.
      try? await Task.sleep(for: .microseconds(.random(in: 1...300)))
    }
  }

  private final class Count {
    var begun = 0
    let expected: Int
    let all = LoopPromise<Void>()
    init(expected: Int) { self.expected = expected }
  }

  private final class FarPump: LoopTimer {
    let count: Int
    let begun: LoopBound<Count>
    init(_ count: Int, _ begun: LoopBound<Count>) {
      self.count = count
      self.begun = begun
    }
    override func fired(on loop: isolated EventLoop) {
      let pool = WorkerPool<FarWork>.of(loop)
      for _ in 0..<count { pool.submit(FarWork(begun: begun)) }
      pool.pump(on: loop)
    }
  }

  @Test("no piece is left without a worker, however the parked ones came to rest")
  func nothingLeft() async throws {
    let loop = try EventLoopGroup(count: 1).next()
    #expect(await Self.pumpRounds(1_000, on: loop) == 1_000)
  }

  /// How many rounds had all their work begun.
  private static func pumpRounds(_ rounds: Int, on loop: isolated EventLoop) async -> Int {
    for round in 0..<rounds {
      let count = Count(expected: 1 + round % 12)
      let pump = FarPump(count.expected, LoopBound(count, on: loop))
      loop.core.arm(pump, at: .now())
      guard case .value = await count.all.wait(until: .now() + .seconds(5), on: loop) else {
        return round
      }
    }
    return rounds
  }

  private struct GatedWork: LoopWork {
    let gate: LoopPromise<Void>
    let count: Count
    func run(on loop: isolated EventLoop) async {
      _ = await gate.wait(until: .now() + .seconds(20), on: loop)
      count.begun += 1
      if count.begun == count.expected { count.all.fulfil((), on: loop) }
    }
  }

  @Test(
    "of the tasks that a burst needed, as many as the limit are kept", arguments: [-1, 0, 1, 50])
  func parked(beyond: Int) async throws {
    let kept = WorkerPool<GatedWork>.parkedMax
    let loop = try EventLoopGroup(count: 1).next()
    for _ in 0..<2 {
      #expect(await Self.parked(after: kept + beyond, on: loop) == min(kept, kept + beyond))
    }
  }

  /// How many tasks are kept behind so many pieces of work at once.
  private static func parked(after pieces: Int, on loop: isolated EventLoop) async -> Int {
    let pool = WorkerPool<GatedWork>.of(loop)
    let count = Count(expected: pieces)
    let gates = (0..<pieces).map { _ in LoopPromise<Void>() }
    for gate in gates { pool.submit(GatedWork(gate: gate, count: count)) }
    pool.pump(on: loop)
    // A worker runs with the outer run of the loop's jobs, which this is.
    for _ in 0..<10 { await Task.yield() }
    for gate in gates { gate.fulfil((), on: loop) }
    _ = await count.all.wait(until: .now() + .seconds(20), on: loop)
    for _ in 0..<10 { await Task.yield() }
    return pool.parkedCount
  }

  /// Runs as a job of the loop; outside of one, from a timer.
  private static func fill(
    _ pool: LoopBound<WorkerPool<Work>>, _ log: LoopBound<Log>, insideAJob: Bool,
    on loop: isolated EventLoop
  ) async {
    let pump = Pump(pool.get(on: loop), log.get(on: loop))
    if insideAJob {
      pump.fired(on: loop)
    } else {
      loop.core.arm(pump, at: .now())
    }
    _ = await pump.done.wait(until: .now() + .seconds(20), on: loop)
  }

  private final class Pump: LoopTimer {
    let pool: WorkerPool<Work>
    let log: Log
    let done = LoopPromise<Void>()

    init(_ pool: WorkerPool<Work>, _ log: Log) {
      self.pool = pool
      self.log = log
    }

    override func fired(on loop: isolated EventLoop) {
      for number in 0..<10 {
        pool.submit(Work(number: number, suspends: number == 3, log: log))
      }
      pool.pump(on: loop)
      done.fulfil((), on: loop)
    }
  }

  /// What has run after some turns of the loop; then everything is let go and forgotten.
  private static func finish(
    _ log: LoopBound<Log>, on loop: isolated EventLoop
  ) async throws -> ([Int], [Int]) {
    let log = log.get(on: loop)
    for _ in 0..<100 where log.ended.count < 9 { await Task.yield() }
    let seen = (log.started, log.ended)
    log.gate.fulfil((), on: loop)
    try await eventually { log.ended.count >= 10 }
    log.started = []
    log.ended = []
    log.gate = LoopPromise()
    return seen
  }
}
