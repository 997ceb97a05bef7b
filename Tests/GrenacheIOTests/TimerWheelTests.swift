import TestSupport
import Testing

@testable import GrenacheIO

@Suite("Timer wheel")
struct TimerWheelTests {
  private static let tick = TimerWheel.tickNanoseconds

  @Test(
    "against a sorted list: never early, at most one tick late, cancelled ones never",
    arguments: 1...20)
  func model(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var now: UInt64 = 1_000_000_000_000
    var wheel = TimerWheel(now: MonotonicTime(nanoseconds: now))
    let timers = (0..<200).map { _ in LoopTimer() }
    var deadlines: [Int: UInt64] = [:]
    for _ in 0..<3_000 {
      switch Int.random(in: 0..<10, using: &generator) {
      case 0..<5:
        let index = Int.random(in: 0..<timers.count, using: &generator)
        // From the past to several turns of the wheel ahead.
        let span = Self.tick * UInt64(TimerWheel.slotCount) * 3
        let deadline = now - 2 * Self.tick + UInt64.random(in: 0..<span, using: &generator)
        wheel.arm(timers[index], at: MonotonicTime(nanoseconds: deadline))
        deadlines[index] = deadline
      case 5..<7:
        let index = Int.random(in: 0..<timers.count, using: &generator)
        wheel.cancel(timers[index])
        deadlines[index] = nil
      default:
        let scale: UInt64 = Bool.random(using: &generator) ? 3 : 900
        let before = now
        now += UInt64.random(in: 0..<(Self.tick * scale), using: &generator)
        var due: [LoopTimer] = []
        wheel.advance(to: MonotonicTime(nanoseconds: now), due: &due)
        for timer in due {
          let index = timers.firstIndex { $0 === timer } ?? -1
          let deadline = deadlines.removeValue(forKey: index)
          #expect(deadline != nil, "fired without being armed")
          // What was armed in the past may wait for the next tick boundary.
          #expect((deadline ?? .max) <= max(now, before + Self.tick))
        }
        for deadline in deadlines.values {
          #expect(deadline + 2 * Self.tick > now, "overdue by more than a tick")
        }
      }
      #expect(wheel.count == deadlines.count)
      checkNext(wheel, deadlines, now: now)
    }
  }

  /// The wheel never sleeps past the earliest deadline's tick.
  private func checkNext(_ wheel: TimerWheel, _ deadlines: [Int: UInt64], now: UInt64) {
    let next = wheel.nextCheck
    #expect((next == nil) == deadlines.isEmpty)
    guard let next, let earliest = deadlines.values.min() else { return }
    #expect(next.nanoseconds <= max(earliest, now) + 2 * Self.tick)
  }

  @Test("a timer that is armed anew fires once, at the later time")
  func rearm() {
    var wheel = TimerWheel(now: MonotonicTime(nanoseconds: 0))
    let timer = LoopTimer()
    wheel.arm(timer, at: MonotonicTime(nanoseconds: 2 * Self.tick))
    wheel.arm(timer, at: MonotonicTime(nanoseconds: 9 * Self.tick))
    var due: [LoopTimer] = []
    wheel.advance(to: MonotonicTime(nanoseconds: 8 * Self.tick), due: &due)
    #expect(due.isEmpty)
    wheel.advance(to: MonotonicTime(nanoseconds: 9 * Self.tick), due: &due)
    #expect(due.count == 1)
    #expect(!timer.isArmed)
  }

  @Test("a timer that is due is cancelled or armed anew by one that was due with it")
  func dueTogether() async throws {
    let loop = try EventLoopGroup.shared().next()
    #expect(await Self.fireTogether(on: loop) == ["first"])
  }

  private final class Log {
    var fired: [String] = []
    let ended = LoopPromise<[String]>()
  }

  /// Notes that it fires; the one that has others to deal with cancels one and arms one anew.
  private final class Named: LoopTimer {
    let name: String
    let log: Log
    let others: [Named]

    init(_ name: String, _ log: Log, others: [Named] = []) {
      self.name = name
      self.log = log
      self.others = others
    }

    override func fired(on loop: isolated EventLoop) {
      log.fired.append(name)
      guard others.count == 2 else { return }
      loop.core.cancel(others[0])
      loop.core.arm(others[1], after: .seconds(60))
      log.ended.fulfil(log.fired, on: loop)
    }
  }

  private static func fireTogether(on loop: isolated EventLoop) async -> [String] {
    let log = Log()
    let others = [Named("cancelled", log), Named("later", log)]
    let first = Named("first", log, others: others)
    // Of one tick, the one that was armed last comes first.
    let deadline = MonotonicTime.now() + .milliseconds(20)
    for timer in others + [first] { loop.core.arm(timer, at: deadline) }
    _ = await log.ended.wait(until: .now() + .seconds(5), on: loop)
    loop.core.cancel(others[1])
    return log.fired
  }

  @Test("the wheel keeps its timers alive and lets go of them when they are cancelled")
  func lifetime() {
    var wheel = TimerWheel(now: MonotonicTime(nanoseconds: 0))
    weak var kept: LoopTimer?
    do {
      let timer = LoopTimer()
      wheel.arm(timer, at: MonotonicTime(nanoseconds: Self.tick))
      kept = timer
    }
    #expect(kept != nil)
    if let timer = kept { wheel.cancel(timer) }
    #expect(kept == nil)
  }
}

@Suite("A timer of an object")
struct TargetTimerTests {
  private final class Owner: LoopTimerTarget {
    lazy var timer = TargetTimer(self)
    func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {}
  }

  @Test("keeps its owner alive while it is armed, and no longer")
  func lifetime() {
    var wheel = TimerWheel(now: MonotonicTime(nanoseconds: 0))
    var owner: Owner? = Owner()
    weak let seen = owner
    let timer = owner?.timer
    if let timer { wheel.arm(timer, at: MonotonicTime(nanoseconds: 1_000_000_000)) }
    owner = nil
    #expect(seen != nil)
    if let timer { wheel.cancel(timer) }
    #expect(seen == nil)
    #expect(timer?.isArmed == false)
  }
}
