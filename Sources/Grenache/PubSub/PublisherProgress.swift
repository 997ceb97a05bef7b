internal import GrenacheTLS

/// How far a subscriber has followed one publisher, through all its runs and connections, and what it
/// misses of them.
struct PublisherProgress {
  /// Messages of a run that are missing; without numbers nobody knows which.
  struct Missing: Hashable {
    var numbers: ClosedRange<UInt64>?
    var run: String?

    init(_ numbers: ClosedRange<UInt64>, of run: String?) {
      self.numbers = numbers
      self.run = run
    }

    /// Those that nobody knows.
    init(unknownOf run: String?) {
      self.run = run
    }

    fileprivate init?(_ gap: PublisherCursor.Gap?, of run: String?) {
      switch gap {
      case .numbers(let numbers): self.init(numbers, of: run)
      case .unknown: self.init(unknownOf: run)
      case nil: return nil
      }
    }
  }

  /// Where the subscriber is in what the publisher says.
  private(set) var place: PublisherPlace
  /// Whether somebody else tells what is missing of the run before.
  private(set) var isRelieved: Bool

  init(_ place: PublisherPlace, isRelieved: Bool) {
    self.place = place
    self.isRelieved = isRelieved
  }

  var run: String? { place.cursor.epoch }

  // MARK: Messages

  /// A message with its number has come.
  ///
  /// - Returns: whether it is new, and what is missing before it.
  mutating func received(_ number: UInt64) -> (isNew: Bool, missing: Missing?) {
    let (isNew, gap) = place.cursor.received(number)
    return (isNew, Missing(gap, of: run))
  }

  /// The publisher has named messages that it gave up.
  mutating func lost(_ numbers: ClosedRange<UInt64>) -> Missing? {
    Missing(place.cursor.lost(numbers), of: run)
  }

  /// The message that comes next cannot be taken.
  mutating func passedOver() -> Missing? {
    Missing(place.cursor.passedOver(), of: run)
  }

  // MARK: Connections

  /// The publisher is there again.
  ///
  /// - Parameter isExtended: whether it numbers what it says.
  /// - Returns: what was missed meanwhile, if nobody knows what that was: from there on it begins anew.
  mutating func opened(isExtended: Bool) -> Missing? {
    guard place.mayMiss || (!isExtended && run != nil) else { return nil }
    defer {
      place = PublisherPlace(hasTopics: place.cursor.hasTopics)
      isRelieved = false
    }
    return isRelieved ? nil : Missing(unknownOf: run)
  }

  mutating func closed(_ end: PublisherSession.End) {
    switch end {
    case .unopened: break
    case .unnumbered: place.mayMiss = true
    case .numbered(let isInOrder): place.cursor.closed(inOrder: isInOrder)
    }
  }

  /// The publisher is given up.
  ///
  /// - Returns: what it said at last, which nobody will ever say, unless somebody has already.
  mutating func givenUp() -> Missing? {
    guard !isRelieved, place.mayMiss || !place.cursor.isComplete else { return nil }
    place.isEndTold = true
    return Missing(unknownOf: run)
  }

  // MARK: Runs

  /// Goes on at a place that was somebody else's, who is at this address now.
  ///
  /// - Returns: what is missing of the run that is left.
  mutating func move(to known: PublisherPlace) -> Missing? {
    defer {
      place = known
      isRelieved = false
    }
    guard !place.cursor.isComplete, !place.isEndTold, !isRelieved else { return nil }
    return Missing(unknownOf: run)
  }

  /// Whether the run has said something before its number `next` that has not come.
  func isBehind(_ next: UInt64, of run: String) -> Bool {
    guard self.run == run, let last = place.cursor.after else { return false }
    return next - min(next, 1) > last
  }

  /// The publisher has said which run this is, and which number comes next.
  ///
  /// - Parameters:
  ///   - identity: who has said so.
  ///   - isSame: whether it is the same publisher, at another one of its places perhaps.
  /// - Returns: what is missing before what comes of it.
  mutating func begin(
    _ run: String, next: UInt64, by identity: PeerIdentity?, isSame: Bool
  ) -> [Missing] {
    defer { isRelieved = false }
    place.identity = identity
    return enter(run, next: next, isSame: isSame)
  }

  /// Moves on to a run that is told, here or by who follows it already, from its number `next` on.
  mutating func enter(_ run: String, next: UInt64, isSame: Bool) -> [Missing] {
    let (before, isEndTold) = (self.run, place.isEndTold)
    let gap = place.cursor.opened(epoch: run, next: next)
    place.isEndTold = false
    if before == nil { place.firstNumber = max(next, 1) }
    guard before != nil, before != run else { return [] }
    place.firstNumber = isSame ? max(next, 1) : 1
    // What the new run has said already nobody else tells: they are told that it began here.
    let end = isEndTold || isRelieved ? [] : [Missing(unknownOf: before)]
    // Its messages are the same at each of its places: some of these have come.
    guard !isSame else { return end }
    switch gap {
    case .unknown: return next > 1 ? end + [Missing(1...next - 1, of: run)] : end
    case .numbers(let numbers): return [Missing(numbers, of: run)]
    case nil: return []
    }
  }
}
