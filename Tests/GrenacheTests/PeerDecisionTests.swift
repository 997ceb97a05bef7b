import GrenacheIO
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

private func endpoints(_ count: Int) -> [Endpoint] {
  (0..<count).map { Endpoint(host: "10.0.0.1", port: UInt16($0 + 1)) }
}

@Suite("P27 When a follower asks whom")
struct FollowScheduleTests {
  private let grapes = endpoints(2)
  private let now = MonotonicTime(nanoseconds: 1_000_000_000)
  private let interval = Duration.seconds(5)

  @Test("a lost watch is looked for again soon, and grapes that are gone ever more seldom")
  func rests() {
    var generator = SeededGenerator(seed: 1)
    var schedule = FollowSchedule()
    func rest() -> Double {
      schedule.rest(lookupInterval: interval, using: &generator).milliseconds
    }
    for ms in [200, 400, 800, 1_600, 3_200, 5_000, 5_000] as [Double] {
      for grape in grapes {
        let goesOn = schedule.watchEnded(.unreachable, at: grape, lasting: .zero, now: now)
        #expect(goesOn && schedule.isWorthAsking(grape, at: now))
      }
      let time = rest()
      #expect((ms * 0.75...ms * 1.25).contains(time))
    }
    let goesOn = schedule.watchEnded(
      .lost, at: grapes[0], lasting: FollowPace.steadyTime, now: now)
    // Then nobody is asked for a watch.
    let (short, long) = (rest(), rest())
    #expect(!goesOn && short <= 2_000 && long >= 3_750)
  }

  @Test("a grape that offers none is asked again after a minute, and others meanwhile")
  func offers() {
    var schedule = FollowSchedule()
    let goesOn = schedule.watchEnded(.notOffered, at: grapes[0], lasting: .zero, now: now)
    #expect(goesOn)
    #expect(!schedule.isWorthAsking(grapes[0], at: now + .seconds(59)))
    #expect(schedule.isWorthAsking(grapes[0], at: now + .seconds(60)))
    #expect(schedule.isWorthAsking(grapes[1], at: now))
  }
}

@Suite("P34 Which answer of a hedged call counts")
struct RPCHedgeTests {
  private let now = MonotonicTime(nanoseconds: 1_000)
  private let delay = Duration.nanoseconds(10)
  private func hedge(deadline: UInt64 = 2_000) -> RPCHedge<Int> {
    RPCHedge(at: now, delay: delay, deadline: MonotonicTime(nanoseconds: deadline))
  }
  private func result(_ hedge: inout RPCHedge<Int>, at nanoseconds: UInt64) -> Result<Int, Fault>? {
    guard case .over(let result) = hedge.next(at: MonotonicTime(nanoseconds: nanoseconds)) else {
      return nil
    }
    return result.mapError { Fault(code: $0.code) }
  }
  private struct Fault: Error, Hashable { var code: GrenacheError.Code }

  @Test("a second worker is called after the delay, not before, and once")
  func second() {
    var hedge = hedge()
    guard case .wait(until: now + delay) = hedge.next(at: MonotonicTime(nanoseconds: 1_009)),
      case .startSecond = hedge.next(at: MonotonicTime(nanoseconds: 1_010)),
      case .wait(until: MonotonicTime(nanoseconds: 2_000)) = hedge.next(at: now + delay)
    else {
      Issue.record("it waits, starts the second, and waits for its deadline")
      return
    }
    let end = result(&hedge, at: 2_000)
    #expect(end == .failure(Fault(code: .deadlineExceeded)))
  }

  @Test("a call that is over before the delay has no second worker", arguments: [1_005, 1_010])
  func late(_ deadline: UInt64) {
    var hedge = hedge(deadline: deadline)
    let end = result(&hedge, at: 1_010)
    #expect(end == .failure(Fault(code: .deadlineExceeded)))
  }

  @Test(
    "an answer decides at once; that one worker was lost does not while the other has the call",
    arguments: [
      (GrenacheError.Code?.none, true), (.remoteError, true), (.notPermitted, true),
      (.connectionLost, false), (.workerUnreachable, false), (.overloaded, false),
    ])
  func decision(_ code: GrenacheError.Code?, _ decides: Bool) {
    let first = code.map { Result<Int, GrenacheError>.failure(GrenacheError($0, "first")) }
    var hedge = hedge()
    _ = hedge.next(at: now + delay)
    let hasDecided = hedge.ended(first ?? .success(1))
    let isOver = result(&hedge, at: 1_500) != nil
    let decidesLater = hedge.ended(.success(2))
    #expect(hasDecided == decides && isOver == decides && decidesLater == !decides)
    let expected = code.map { Result<Int, Fault>.failure(Fault(code: $0)) } ?? .success(1)
    let end = result(&hedge, at: 1_500)
    #expect(end == (decides ? expected : .success(2)))
  }

  @Test("a first attempt that fails before the delay, with its retries, ends the call")
  func early() {
    var hedge = hedge()
    let hasDecided = hedge.ended(.failure(GrenacheError(.connectionLost, "lost")))
    let end = result(&hedge, at: 1_001)
    #expect(hasDecided && end == .failure(Fault(code: .connectionLost)))
  }
}

@Suite("Whom a map calls")
struct RPCMapPlanTests {
  @Test(
    "every worker once, or as many as the limit",
    arguments: [(nil, 4), (-1, 0), (0, 0), (3, 3), (4, 4), (5, 4)] as [(Int?, Int)])
  func limit(_ limit: Int?, _ count: Int) {
    var generator = SeededGenerator(seed: 1)
    let found = endpoints(4)
    var plan = RPCMapPlan(
      found + found, limit: limit, concurrencyMax: 100, using: &generator)
    var called: [Endpoint] = []
    while let worker = plan.next() { called.append(worker) }
    #expect(called.count == count)
    #expect(Set(called).count == count && Set(found).isSuperset(of: called))
  }

  @Test("so many at the same time", arguments: [(0, 1), (1, 1), (3, 3), (4, 4), (5, 4)])
  func concurrency(_ most: Int, _ first: Int) {
    var generator = SeededGenerator(seed: 1)
    var plan = RPCMapPlan(endpoints(4), limit: nil, concurrencyMax: most, using: &generator)
    var called = 0
    while plan.next() != nil { called += 1 }
    #expect(called == first)
    for _ in first..<4 {
      plan.ended()
      let (one, more) = (plan.next(), plan.next())
      #expect(one != nil && more == nil)
    }
    let end = plan.next()
    #expect(end == nil)
  }
}

@Suite("Which grape is asked")
struct GrapeRoundTests {
  private let now = MonotonicTime(nanoseconds: 0)

  private func asked(_ step: GrapeRound.Step) -> (index: Int, by: MonotonicTime)? {
    if case .ask(let index, let limit) = step { (index, limit) } else { nil }
  }

  @Test("all of them once, from the one that answered last, each for its time")
  func order() {
    var round = GrapeRound(of: 3, from: 2, attemptTimeout: .seconds(2))
    for (second, index) in [(0, 2), (2, 0), (4, 1)] {
      let next = round.next(at: now + .seconds(second))
      let step = asked(next)
      #expect(step?.index == index)
      #expect(step?.by == now + .seconds(second + 2))
      round.failed(GrenacheError(.grapeUnreachable, "\(index)"))
    }
    guard case .fail(let error) = round.next(at: now) else {
      Issue.record("nobody is asked twice")
      return
    }
    #expect(error.code == .grapeUnreachable && error.message == "1" && round.untried == nil)
  }

  @Test("none after the deadline, but the first, and none for longer than until then")
  func deadline() {
    let deadline = now + .seconds(3)
    var round = GrapeRound(of: 3, from: 0, attemptTimeout: .seconds(2), deadline: deadline)
    let (first, second) = (round.next(at: now), round.next(at: now + .seconds(2)))
    #expect(asked(first)?.by == now + .seconds(2) && asked(second)?.by == deadline)
    guard case .fail(let error) = round.next(at: deadline) else {
      Issue.record("it is too late")
      return
    }
    // Its turn comes first the next time.
    #expect(error.code == .deadlineExceeded && round.untried == 2)
  }

  @Test("after an answer of no use another grape is asked first, if there is one")
  func next() {
    var preference = GrapePreference()
    // Who says so of one grape several times means the same.
    let firsts = [0, 0, 1, 2, 0].map { grape in
      preference.distrust(grape, of: 3, at: now)
      return preference.first(at: now)
    }
    #expect(firsts == [1, 1, 2, 0, 1])
    var only = GrapePreference()
    only.distrust(0, of: 1, at: now)
    #expect(only.first(at: now) == 0)
  }
}

@Suite("What a connection keeps of its calls")
struct RunningCallsTests {
  private let now = MonotonicTime(nanoseconds: 1)

  @Test("identifiers are given back with the end of their call, whichever way it ends")
  func identifiers() {
    var calls = RunningCalls()
    let places = (0..<3).map { calls.add([UInt8](repeating: $0, count: 1_000), deadline: nil) }
    calls.cancel([UInt8](repeating: 1, count: 1_000))
    let wanted = places.map { calls.end($0) }
    #expect(wanted == [.wanted, .unwanted, .wanted])
    #expect(calls.held == (0, 3) && calls.count == 0)
    // A place that is taken again knows nothing of the call before.
    let place = calls.add([9], deadline: nil)
    calls.cancel([UInt8](repeating: 1, count: 1_000))
    #expect(calls.mayBegin(place, at: now) && calls.held.identifierBytes == 1)
  }

  @Test("a call that was cancelled by its deadline is late, unless its caller cancels it, too")
  func late() {
    var calls = RunningCalls()
    let ends: [MonotonicTime?] = [now, now, now + .seconds(1), nil]
    let places = ends.enumerated().map { calls.add([UInt8($0)], deadline: $1) }
    calls.cancel([0])
    calls.cancelLate(at: now)
    calls.cancelLate(at: now)
    #expect(places.map { calls.mayBegin($0, at: now) } == [false, false, true, true])
    #expect(places.prefix(2).map { calls.end($0) } == [.unwanted, .late])
    calls.cancelLate(at: now + .seconds(2))
    calls.cancel([2])
    #expect(places.suffix(2).map { calls.end($0) } == [.unwanted, .wanted])
  }

  @Test(
    "a cancellation says whether it has cancelled anything: not twice, and none that is not there")
  func cancelledOnce() {
    var calls = RunningCalls()
    for rid: UInt8 in [1, 2, 2, 3] { _ = calls.add([rid], deadline: rid == 3 ? now : nil) }
    calls.cancelLate(at: now)
    // Two calls of one identifier are both meant; one that is late is not wanted any more.
    let cancelled = [[1], [1], [2], [2], [3], [4], []].map { calls.cancel($0) }
    #expect(cancelled == [true, false, true, false, false, false, false])
    #expect((0..<4).map { calls.isCancelled($0) } == [true, true, true, true])
  }

  @Test("so many places are kept while there are no calls, not one more", arguments: [64, 65])
  func places(_ count: Int) {
    var calls = RunningCalls()
    let places = (0..<count).map { _ in calls.add([1], deadline: nil) }
    for place in places.dropLast() { _ = calls.end(place) }
    #expect(calls.held == (1, count))
    _ = calls.end(places[count - 1])
    #expect(calls.held == (0, count == 64 ? 64 : 0) && calls.count == 0)
    #expect(calls.nextDeadline(after: now) == nil)
    let next = calls.add([1], deadline: nil)
    #expect(next < 65 && calls.count == 1)
  }
}
