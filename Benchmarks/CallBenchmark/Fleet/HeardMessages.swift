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
    /// From where on everything has to come, or be named, once anything has.
    var first: Int?
    var firstAt: ContinuousClock.Instant
    /// Whether nobody knows what it said at last.
    var isEndUnknown = false

    /// What has neither come nor was named, up to a number.
    func missing(upTo last: Int) -> [Int] {
      guard let first, first <= last else { return [] }
      return (first...last).filter { !heard.contains($0) && !named.contains($0) }
    }

    var last: Int { max(heard.last ?? 0, named.last ?? 0) }
  }
  private var runs: [String: Run] = [:]
  /// Addresses at which a run has been heard: of the next one there everything is told.
  private var known: Set<Endpoint> = []
  /// Runs whose end nobody knows, by port, and when that was told: it names those behind them that were never
  /// heard.
  private var unknownEnds: [UInt16: [(run: String, toldAt: ContinuousClock.Instant)]] = [:]
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
        begin(run, nil, from, now)
        runs[run]?.isEndUnknown = true
        unknownEnds[from.port, default: []].append((run, now))
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
    _ run: String, _ number: Int?, _ from: Endpoint, _ now: ContinuousClock.Instant
  ) {
    // Behind another run at the same address nothing is left out.
    let first = known.contains(from) ? 1 : number
    if runs[run] == nil {
      runs[run] = Run(first: first, firstAt: now)
      known.insert(from)
    } else if runs[run]?.first == nil {
      runs[run]?.first = number
    }
  }

  /// What has been published has come, or is named, and every run was found.
  mutating func end() {
    let all = published.runs
    for (name, run) in runs {
      if run.isEndUnknown, !isSlow, !Self.mayBeUnknown(name, all) {
        lost.append("\(name) ended in order, and what it said at last is unknown")
      }
      let last = run.isEndUnknown ? run.last : published.last(of: name)
      lost += run.missing(upTo: last).map { "\(name) \($0)" }
    }
    lost += neverHeard(all).map {
      "\($0), of which \(all[$0]?.last ?? 0) messages were published, was never heard"
    }
    for (name, run) in all where run.isLong {
      guard !isSlow, let found = runs[name] else { continue }
      let took = found.firstAt - run.began
      slowestFind = max(slowestFind, took)
      if took > Self.foundWithin {
        lost.append("\(name) was heard \(took) after its first message")
      }
    }
  }

  /// Runs that should have been heard, and that no gap behind an earlier run at their address names.
  private func neverHeard(_ all: [String: Published.Run]) -> [String] {
    all.filter { name, run in
      guard run.isLong, runs[name] == nil else { return false }
      let ends = run.port.flatMap { unknownEnds[$0] } ?? []
      return !ends.contains { end in
        end.toldAt >= run.began && (all[end.run].map { $0.began < run.began } ?? false)
      }
    }.map(\.key)
  }

  /// Whether the run was killed, or one behind it at its address that may not have been heard.
  private static func mayBeUnknown(_ name: String, _ all: [String: Published.Run]) -> Bool {
    guard let run = all[name] else { return true }
    return all.values.contains {
      $0.wasKilled && $0.port == run.port && $0.began >= run.began
    }
  }

  /// Whether everything that was published has come, as far as is known, and every run was heard or named.
  var hasCaughtUp: Bool {
    runs.allSatisfy { name, run in run.isEndUnknown || run.last >= published.last(of: name) }
      && neverHeard(published.runs).isEmpty
  }

  /// Whether of each of those runs as much has been heard.
  func hasHeard(_ some: [String: Published.Run]) -> Bool {
    some.allSatisfy { name, run in (runs[name]?.last ?? 0) >= run.last }
  }
}

extension Published.Run {
  /// Whether it was published for so long that it has to be heard.
  fileprivate var isLong: Bool { lastAt - began > HeardMessages.publishedMin }
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
