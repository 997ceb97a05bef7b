import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("When what is followed is looked for again")
struct FollowPaceTests {
  private let interval = Duration.seconds(5)

  @Test(
    "P37 those who lose the same grape come to the next one over two seconds",
    arguments: [1, 2, 3])
  func spread(_ seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var counts = [Int](repeating: 0, count: 20)
    for _ in 0..<10_000 {
      var pace = FollowPace()
      let pause = pace.pause(
        after: .lost, lasting: .seconds(600), interval: interval, using: &generator)
      #expect(pause >= .zero && pause <= .seconds(2))
      counts[min(19, Int(pause / .milliseconds(100)))] += 1
    }
    // 500 in each tenth of a second, about.
    #expect(counts.allSatisfy { (350...650).contains($0) }, "\(counts)")
  }

  @Test("a grape that answers and closes is come back to ever later; one that lasted is not")
  func backOff() {
    var generator = SeededGenerator(seed: 1)
    var pace = FollowPace()
    func longest(_ time: Duration) -> Duration {
      var most = Duration.zero
      for _ in 0..<200 {
        var copy = pace
        most = max(
          most, copy.pause(after: .lost, lasting: time, interval: interval, using: &generator))
      }
      _ = pace.pause(after: .lost, lasting: time, interval: interval, using: &generator)
      return most
    }
    for _ in 0..<10 { _ = longest(.milliseconds(9_999)) }
    #expect(longest(.zero) > .seconds(4))
    #expect(longest(.zero) <= interval)
    #expect(longest(FollowPace.steadyTime) <= .seconds(2))
  }

  @Test("without a watch, by the interval of lookups; unreachable grapes sooner at first")
  func intervals() {
    var generator = SeededGenerator(seed: 1)
    var pace = FollowPace()
    for end in [nil, FollowSchedule.WatchEnd.notOffered] {
      let pause = pace.pause(after: end, lasting: .zero, interval: interval, using: &generator)
      #expect(pause >= interval * 0.75 && pause <= interval * 1.25)
    }
    var pauses: [Duration] = []
    for _ in 0..<12 {
      pauses.append(
        pace.pause(after: .unreachable, lasting: .zero, interval: interval, using: &generator))
    }
    #expect(pauses[0] <= .milliseconds(250))
    #expect(pauses[11] >= interval * 0.75 && pauses[11] <= interval * 1.25)
  }
}

@Suite("Which grape is asked first")
struct GrapePreferenceTests {
  @Test("the one that answered in place of the first, for a minute")
  func time() {
    var preference = GrapePreference()
    let start = MonotonicTime(nanoseconds: 1_000)
    #expect(preference.first(at: start) == 0)
    preference.answered(0, at: start)
    #expect(preference.first(at: start) == 0)
    preference.answered(2, at: start)
    let end = start + GrapePreference.time
    // That it answers again makes it no longer.
    preference.answered(2, at: start + .seconds(30))
    #expect(preference.first(at: start + .milliseconds(59_999)) == 2)
    #expect(preference.first(at: end) == 0)
    // The first has failed again.
    preference.answered(1, at: end)
    #expect(preference.first(at: end + .seconds(1)) == 1)
    preference.answered(0, at: end + .seconds(2))
    #expect(preference.first(at: end + .seconds(3)) == 0)
  }
}

@Suite("Failures that come again and again")
struct RecurringFailuresTests {
  private let start = MonotonicTime(nanoseconds: 1_000_000_000_000)

  @Test("the first is told, and another one, but not twice in ten seconds, whatever happens")
  func told() {
    var failures = RecurringFailures<String>(pause: .seconds(10))
    func isNew(_ kind: String, of source: String = "a", after seconds: Int) -> Bool {
      failures.isNew(kind, of: source, at: start + .seconds(seconds))
    }
    #expect(isNew("refused", after: 0))
    #expect(!isNew("refused", after: 3_600))
    #expect(isNew("timed out", after: 3_600))
    #expect(!isNew("refused", after: 3_609))
    #expect(isNew("refused", after: 3_610))
    let ended = (failures.ended("a"), failures.ended("a"))
    #expect(ended == (true, false))
    #expect(!isNew("refused", after: 3_619))
    #expect(isNew("refused", after: 3_620))
    #expect(isNew("refused", of: "b", after: 0))
  }

  @Test("so many sources are remembered, and none beyond until one has ended for long")
  func limit() {
    var failures = RecurringFailures<Int>(pause: .seconds(10), sourcesMax: 3)
    func isNew(_ source: Int, after time: Duration) -> Bool {
      failures.isNew("refused", of: source, at: start + time)
    }
    for source in 0..<3 { #expect(isNew(source, after: .zero)) }
    #expect(!isNew(3, after: .seconds(60)))
    failures.ended(1)
    #expect(isNew(3, after: .seconds(60)))
    #expect(failures.count == 3)
  }
}

@Suite("Publishers that are gone")
struct AbsentPublisherTests {
  private func place(_ run: String) -> PublisherPlace {
    var place = PublisherPlace(hasTopics: false)
    _ = place.cursor.opened(epoch: run, next: 5)
    return place
  }

  private func endpoint(_ number: Int) -> Endpoint {
    Endpoint(host: "10.0.0.1", port: UInt16(number))
  }

  @Test("as many as the limit are remembered; one more pushes the oldest out", arguments: [3, 4])
  func limit(_ count: Int) {
    var absent = AbsentPublishers(countMax: 3)
    for number in 1...count { absent.keep(place("run \(number)"), of: endpoint(number)) }
    #expect(absent.count == 3)
    let first = absent.take(endpoint(1))
    #expect((first == nil) == (count == 4))
    let (second, again) = (absent.take(endpoint(2)), absent.take(endpoint(2)))
    #expect(second?.cursor.epoch == "run 2")
    #expect(again == nil)
    // One of which nothing is known takes no place, and one takes one.
    absent.keep(PublisherPlace(hasTopics: false), of: endpoint(9))
    absent.keep(place("another"), of: endpoint(3))
    let (another, gone) = (absent.take(run: "another", nil), absent.take(run: "run 3", nil))
    #expect(another?.cursor.after == 4)
    #expect(gone == nil)
  }

  @Test("the loops of a publisher are parts of it; nobody takes the place of another by its name")
  func identity() async throws {
    var place = place("a.1")
    #expect(place.isSamePublisher(as: "a.2", nil))
    #expect(!place.isSamePublisher(as: "b.1", nil))
    let authority = try TestAuthority()
    let server = try await ScriptedPublisher(tls: try authority.worker("news")) { _, _ in }
    for names in [["one"], ["one"], ["two"]] {
      let tls = try authority.authority.configuration(
        for: .init(commonName: "publisher", dnsNames: names, services: ["news"]))
      _ = try await RawSubscriber(to: server.endpoint, tls: tls)
    }
    let identities = server.callers
    let (first, renewed, other) = (identities[0], identities[1], identities[2])
    await server.stop()
    place.identity = first
    #expect(place.isSamePublisher(as: "a.2", first))
    #expect(place.isSamePublisher(as: "a.2", renewed))
    #expect(!place.isSamePublisher(as: "a.2", other))
    #expect(!place.isSamePublisher(as: "a.2", nil))
  }
}

@Suite("How soon a publisher is connected to again")
struct ReconnectPaceTests {
  @Test("a connection without a word is a failure unless it lasts")
  func words() {
    var pace = ReconnectPace()
    for (hasHeard, time, isGood) in [
      (false, 0, false), (false, 4, false), (true, 0, true), (false, 5, true),
    ] {
      pace.connectFailed()
      let wasGood = pace.connectionEnded(hasHeard: hasHeard, after: .seconds(time))
      #expect(wasGood == isGood)
      #expect(isGood == (pace.failures == 0))
    }
  }

  @Test("pauses double up to the longest, and half of each is by chance")
  func pauses() {
    var generator = SeededGenerator(seed: 1)
    var pace = ReconnectPace()
    for most in [100, 100, 200, 400, 800, 1_000, 1_000] {
      let pauses = (0..<100).map { _ in
        pace.pause(from: .milliseconds(100), to: .seconds(1), using: &generator)
      }
      #expect(pauses.allSatisfy { $0 >= .milliseconds(most) / 2 && $0 <= .milliseconds(most) })
      #expect(Set(pauses).count > 90)
      #expect(pace.isToGiveUp == (pace.failures >= 2))
      pace.connectFailed()
    }
    for _ in 0..<100 { pace.connectFailed() }
    #expect(pace.pause(from: .seconds(1), to: .seconds(3), using: &generator) <= .seconds(3))
  }
}

extension SubscriberQueueTests {
  @Test(
    "a full ring costs the same for each message, however many it keeps", .timeLimit(.minutes(1)))
  func fullRing() {
    let count = 100_000
    var ring = ReplayRing(messagesMax: count, bytesMax: .max)
    for _ in 0..<2 * count { _ = ring.append(PubMessage("")) }
    #expect(ring.replay(after: 0).missing == 1...UInt64(count))
    #expect(ring.replay(after: UInt64(count) + 9).messages.first?.number == UInt64(count) + 10)
  }
}
