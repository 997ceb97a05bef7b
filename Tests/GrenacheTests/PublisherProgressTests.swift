import GrenacheTransport
import Testing

@testable import Grenache

@Suite("What a subscriber misses of a publisher")
struct PublisherProgressTests {
  typealias Missing = PublisherProgress.Missing

  /// Somebody who has said `last` messages of a run to the subscriber, and is connected.
  private func progress(
    _ run: String, last: UInt64 = 0, isRelieved: Bool = false
  ) -> PublisherProgress {
    var place = PublisherPlace(hasTopics: false)
    _ = place.cursor.opened(epoch: run, next: last + 1)
    return PublisherProgress(place, isRelieved: isRelieved)
  }

  @Test("messages that are left out, given up, or cannot be taken are missing of the run")
  func messages() {
    var progress = progress("a", last: 3)
    var (isNew, missing) = progress.received(4)
    #expect(isNew && missing == nil)
    (isNew, missing) = progress.received(7)
    #expect(isNew && missing == Missing(5...6, of: "a"))
    (isNew, missing) = progress.received(7)
    #expect(!isNew && missing == nil)
    #expect(progress.lost(8...9) == Missing(8...9, of: "a"))
    #expect(progress.lost(8...9) == nil)
    #expect(progress.passedOver() == Missing(10...10, of: "a"))
  }

  @Test("of a publisher that numbers nothing, nobody knows what was said between two connections")
  func unnumbered() {
    var progress = PublisherProgress(PublisherPlace(hasTopics: true), isRelieved: false)
    #expect(progress.opened(isExtended: false) == nil)
    progress.closed(.unopened)
    #expect(progress.opened(isExtended: false) == nil)
    progress.closed(.unnumbered)
    #expect(progress.place.mayMiss)
    #expect(progress.opened(isExtended: false) == Missing(unknownOf: nil))
    #expect(!progress.place.mayMiss && progress.place.cursor.hasTopics)
  }

  @Test("one that numbers no longer begins anew, one that still does goes on where it was")
  func opened() {
    var progress = progress("a", last: 3)
    #expect(progress.opened(isExtended: true) == nil)
    #expect(progress.place.cursor.after == 3)
    #expect(progress.opened(isExtended: false) == Missing(unknownOf: "a"))
    #expect(progress.run == nil)
    var relieved = self.progress("a", last: 3, isRelieved: true)
    #expect(relieved.opened(isExtended: false) == nil)
    #expect(relieved.run == nil && !relieved.isRelieved)
  }

  @Test("what a publisher said at last is told as missing when it is given up, by one")
  func givenUp() {
    var (left, gone) = (progress("a"), progress("a"))
    left.closed(.numbered(isInOrder: false))
    #expect(left.givenUp() == Missing(unknownOf: "a"))
    #expect(left.place.isEndTold)
    gone.closed(.numbered(isInOrder: true))
    #expect(gone.givenUp() == nil)
    var relieved = progress("a", isRelieved: true)
    #expect(relieved.givenUp() == nil && !relieved.place.isEndTold)
  }

  @Test(
    "another run of another publisher: the end of the one before, and what the new one has said",
    arguments: [(1, 1), (2, 1), (1, 5), (2, 5)] as [(Int, UInt64)])
  func another(_ isInOrder: Int, _ next: UInt64) {
    var progress = progress("a.1", last: 3)
    progress.closed(.numbered(isInOrder: isInOrder == 1))
    let missing = progress.begin("b.1", next: next, by: nil, isSame: false)
    var expected: [Missing] = isInOrder == 1 ? [] : [Missing(unknownOf: "a.1")]
    if next > 1 { expected.append(Missing(1...next - 1, of: "b.1")) }
    #expect(missing == expected)
    #expect(progress.run == "b.1" && progress.place.firstNumber == 1)
    #expect(progress.place.cursor.after == next - 1)
  }

  @Test("another place of the same publisher: some of its messages have come already")
  func same() {
    var progress = progress("a.1", last: 3)
    let missing = progress.begin("a.2", next: 9, by: nil, isSame: true)
    #expect(missing == [Missing(unknownOf: "a.1")])
    #expect(progress.place.firstNumber == 9)
  }

  @Test("the end of a run is told once, and by who was not relieved of it")
  func once() {
    var told = progress("a.1")
    _ = told.givenUp()
    #expect(told.begin("b.1", next: 1, by: nil, isSame: false) == [])
    #expect(!told.place.isEndTold)
    #expect(told.begin("c.1", next: 1, by: nil, isSame: false) == [Missing(unknownOf: "b.1")])
    var relieved = progress("a.1", isRelieved: true)
    // But of the new run, which begins with this one.
    let missing = relieved.begin("b.1", next: 5, by: nil, isSame: false)
    #expect(missing == [Missing(1...4, of: "b.1")] && relieved.place.firstNumber == 1)
    // From the next run on nobody else tells.
    #expect(!relieved.isRelieved)
    #expect(relieved.begin("c.1", next: 1, by: nil, isSame: false) == [Missing(unknownOf: "b.1")])
  }

  @Test("the first run that a subscriber hears of has nothing before it, and the same one goes on")
  func first() {
    var progress = PublisherProgress(PublisherPlace(hasTopics: false), isRelieved: false)
    #expect(progress.begin("a.1", next: 7, by: nil, isSame: false) == [])
    #expect(progress.place.firstNumber == 7)
    #expect(progress.begin("a.1", next: 9, by: nil, isSame: true) == [])
    #expect(progress.place.firstNumber == 7 && progress.place.cursor.after == 6)
    // Numbers begin with 1; what says less counts as that.
    var odd = PublisherProgress(PublisherPlace(hasTopics: false), isRelieved: false)
    #expect(odd.begin("a.1", next: 0, by: nil, isSame: false) == [])
    #expect(odd.place.firstNumber == 1 && odd.place.cursor.after == 0)
    var last = PublisherProgress(PublisherPlace(hasTopics: false), isRelieved: false)
    #expect(last.begin("a.1", next: .max, by: nil, isSame: false) == [])
    #expect(last.place.cursor.after == UInt64.max - 1)
  }

  @Test("who moves to a place that another one had is behind if more was said than has come there")
  func moved() {
    var known = PublisherPlace(hasTopics: false)
    _ = known.cursor.opened(epoch: "b.1", next: 5)
    for (isComplete, isRelieved) in [(false, false), (true, false), (false, true)] {
      var progress = progress("a.1", last: 3, isRelieved: isRelieved)
      progress.closed(.numbered(isInOrder: isComplete))
      let missing = isComplete || isRelieved ? nil : Missing(unknownOf: "a.1")
      #expect(progress.move(to: known) == missing)
      #expect(progress.run == "b.1" && !progress.isRelieved)
      #expect(!progress.isBehind(5, of: "b.1") && progress.isBehind(6, of: "b.1"))
      #expect(!progress.isBehind(0, of: "b.1") && !progress.isBehind(6, of: "b.2"))
    }
  }
}
