import Grenache
import GrenacheTransport

/// What one subscriber has heard of each run of each publisher, and what nobody has told it of.
struct HeardMessages: Sendable {
  /// One that was published for longer has to be heard.
  static let publishedMin = Duration.seconds(10)
  /// So soon after its first message, at the latest.
  static let foundWithin = Duration.seconds(10)

  private struct Run {
    var heard = Numbers()
    var named = Numbers()
    /// From where on everything has to come, or be named.
    var first: Int
    var firstAt: ContinuousClock.Instant
    let endpoint: Endpoint
    /// When it was heard of last.
    var lastAt: ContinuousClock.Instant
    /// Whether nobody knows what it said at last.
    var isEndUnknown = false

    /// What has neither come nor was named, up to a number.
    func missing(upTo last: Int) -> [Int] {
      guard first <= last else { return [] }
      return (first...last).filter { !heard.contains($0) && !named.contains($0) }
    }

    var last: Int { max(heard.last ?? 0, named.last ?? 0) }
  }
  private var runs: [String: Run] = [:]
  /// Addresses at which a run has been heard: of the next one there everything is told.
  private var known: Set<Endpoint> = []
  private let published: Published
  /// Whether it takes its messages so slowly that when it hears of a run says nothing.
  private let isSlow: Bool
  private(set) var messages = 0
  private(set) var doubled = 0
  /// Messages that a gap has named.
  private(set) var named = 0
  /// Gaps of unknown size.
  private(set) var unknownGaps = 0
  /// Messages that are missing without a word, and runs.
  private(set) var lost: [String] = []
  /// How long after its first message a run was heard of, of those that were there so long.
  private(set) var slowestFind = Duration.zero

  init(_ published: Published, isSlow: Bool) {
    self.published = published
    self.isSlow = isSlow
  }

  mutating func hear(_ event: SubscriptionEvent, at now: ContinuousClock.Instant = .now) {
    switch event {
    case .gap(let numbers, let run, let from):
      guard let run else { return lost.append("a gap of no run at \(from)") }
      guard let numbers else {
        unknownGaps += 1
        runs[run]?.isEndUnknown = true
        runs[run]?.lastAt = now
        return
      }
      let range = Int(numbers.lowerBound)...Int(numbers.upperBound)
      named += range.count
      begin(run, range.lowerBound, from, now)
      runs[run]?.named.insert(range)
    case .message(let message, let from):
      let parts = message.text.split(separator: " ", maxSplits: 2)
      guard parts.count == 3, let number = Int(parts[1]) else { return }
      messages += 1
      let run = String(parts[0])
      if message.run != run || message.number != UInt64(number) {
        lost.append("\(run) \(number) came as \(message.run ?? "none") \(message.number ?? 0)")
      }
      begin(run, number, from, now)
      if runs[run]?.heard.contains(number) == true { doubled += 1 }
      runs[run]?.heard.insert(number...number)
    }
  }

  private mutating func begin(
    _ run: String, _ number: Int, _ from: Endpoint, _ now: ContinuousClock.Instant
  ) {
    guard runs[run] == nil else {
      runs[run]?.lastAt = now
      return
    }
    // Behind another run at the same address nothing is left out.
    runs[run] = Run(
      first: known.contains(from) ? 1 : number, firstAt: now, endpoint: from, lastAt: now)
    known.insert(from)
  }

  /// What has been published has come, or is named, and every run was found.
  mutating func end() {
    for (name, run) in runs {
      let last = run.isEndUnknown ? run.last : published.last(of: name)
      lost += run.missing(upTo: last).map { "\(name) \($0)" }
    }
    for (name, run) in published.runs where run.lastAt - run.began > Self.publishedMin {
      guard let found = runs[name] else {
        if isSlow, isBehind(run) { continue }
        lost.append("\(name), of which \(run.last) messages were published, was never heard")
        continue
      }
      let took = found.firstAt - run.began
      guard !isSlow else { continue }
      slowestFind = max(slowestFind, took)
      if took > Self.foundWithin {
        lost.append("\(name) was heard \(took) after its first message")
      }
    }
  }

  /// Whether it was still at what an earlier run had said at that address when this one was over, or nearly:
  /// what waits between two systems' buffers is taken in order, and may take it that long.
  private func isBehind(_ run: Published.Run) -> Bool {
    runs.values.contains { earlier in
      earlier.endpoint.port == run.port && earlier.firstAt < run.began
        && earlier.lastAt > run.lastAt - Self.foundWithin
    }
  }

  /// Whether everything that was published has come, as far as is known.
  var hasCaughtUp: Bool {
    runs.allSatisfy { name, run in run.isEndUnknown || run.last >= published.last(of: name) }
  }
}

/// Numbers that mostly follow each other.
private struct Numbers {
  private var ranges: [ClosedRange<Int>] = []

  var last: Int? { ranges.last?.upperBound }

  func contains(_ number: Int) -> Bool {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < number { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].contains(number)
  }

  mutating func insert(_ numbers: ClosedRange<Int>) {
    if let last = ranges.last, numbers.lowerBound > last.upperBound {
      if numbers.lowerBound == last.upperBound + 1 {
        ranges[ranges.count - 1] = last.lowerBound...numbers.upperBound
      } else {
        ranges.append(numbers)
      }
      return
    }
    // Out of order, which is rare: all ranges that it touches become one.
    let touched = ranges.filter {
      $0.lowerBound <= numbers.upperBound + 1 && numbers.lowerBound <= $0.upperBound + 1
    }
    ranges.removeAll { touched.contains($0) }
    let lower = min(numbers.lowerBound, touched.first?.lowerBound ?? .max)
    let upper = max(numbers.upperBound, touched.last?.upperBound ?? .min)
    ranges.append(lower...upper)
    ranges.sort { $0.lowerBound < $1.lowerBound }
  }
}
