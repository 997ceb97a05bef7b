import Grenache
import GrenacheTransport
import Synchronization

/// What publishers have published, run by run, as they themselves have said.
final class Published: Sendable {
  private let counts = Mutex<[String: Int]>([:])

  /// Takes a line of a publisher: the name of the run and a number.
  func note(_ line: String) {
    let parts = line.split(separator: " ")
    guard parts.count == 2, let number = Int(parts[1]) else { return }
    counts.withLock { $0[String(parts[0])] = number }
  }

  func last(of run: String) -> Int { counts.withLock { $0[run] ?? 0 } }

  var all: Int { counts.withLock { $0.values.reduce(0, +) } }
}

/// What one subscriber has heard of each publisher, and what nobody has told it of.
struct HeardMessages: Sendable {
  private struct Source {
    var run: String
    var last: Int
    var named: [ClosedRange<UInt64>] = []
    /// Whether a gap of unknown size has ended what is known of the run.
    var isBroken = false
  }
  private var sources: [Endpoint: Source] = [:]
  private let published: Published
  private(set) var messages = 0
  private(set) var doubled = 0
  /// Messages that a gap has named.
  private(set) var named = 0
  /// Gaps of unknown size.
  private(set) var unknownGaps = 0
  /// Messages that are missing without a word.
  private(set) var lost: [String] = []

  init(_ published: Published) { self.published = published }

  mutating func hear(_ event: SubscriptionEvent) {
    switch event {
    case .gap(nil, let from):
      unknownGaps += 1
      sources[from]?.isBroken = true
    case .gap(let numbers?, let from):
      named += numbers.count
      sources[from]?.named.append(numbers)
    case .message(let message, let from):
      let parts = message.text.split(separator: " ", maxSplits: 2)
      guard parts.count == 3, let number = Int(parts[1]) else { return }
      hear(String(parts[0]), number, from)
    }
  }

  private mutating func hear(_ run: String, _ number: Int, _ from: Endpoint) {
    messages += 1
    guard let known = sources[from], !known.isBroken else {
      sources[from] = Source(run: run, last: number)
      return
    }
    guard run == known.run else {
      // The run before said everything, or named it.
      checkMissing(known, upTo: published.last(of: known.run))
      sources[from] = Source(run: run, last: number)
      return
    }
    if number <= known.last { doubled += 1 }
    if number > known.last + 1 { checkMissing(known, upTo: number - 1) }
    sources[from]?.last = max(known.last, number)
    sources[from]?.named = []
  }

  /// What has been published at the end has come, or is named.
  mutating func end() {
    for source in sources.values where !source.isBroken {
      checkMissing(source, upTo: published.last(of: source.run))
    }
  }

  /// Whether everything that was published has come, as far as is known.
  var hasCaughtUp: Bool {
    sources.values.allSatisfy { source in
      let last = published.last(of: source.run)
      return source.isBroken || source.last >= last
        || source.named.contains { $0.upperBound >= UInt64(last) }
    }
  }

  private mutating func checkMissing(_ source: Source, upTo last: Int) {
    guard last > source.last else { return }
    for number in (source.last + 1)...last
    where !source.named.contains(where: { $0.contains(UInt64(number)) }) {
      lost.append("\(source.run) \(number)")
    }
  }
}
