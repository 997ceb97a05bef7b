internal import DequeModule
internal import GrenacheTransport

/// What a subscriber has heard and nobody has taken yet: bounded in events and bytes. What comes without
/// room is a part of a gap, of its publisher and run, that is told behind what waits.
struct SubscriptionBuffer {
  /// Runs of publishers whose gaps are kept while there is no room. Of publishers that come and go
  /// meanwhile the last ones are not told of.
  static let missedMax = 1_000

  private struct Source: Hashable {
    var endpoint: Endpoint
    var run: String?
  }

  private struct Missed {
    var order: Int
    var numbers: ClosedRange<UInt64>?
  }

  private let eventsMax: Int
  private let bytesMax: Int
  private var events: Deque<SubscriptionEvent> = []
  private var bytes = 0
  private var missed: [Source: Missed] = [:]
  /// From when it is full until half of it has been taken.
  private(set) var isFull = false

  init(eventsMax: Int, bytesMax: Int) {
    self.eventsMax = eventsMax
    self.bytesMax = bytesMax
  }

  var isEmpty: Bool { events.isEmpty }

  mutating func add(_ event: SubscriptionEvent) {
    guard !isFull else { return miss(event) }
    append(event)
    isFull = events.count >= eventsMax || bytes >= bytesMax
  }

  mutating func popFirst() -> SubscriptionEvent? {
    guard let event = events.popFirst() else { return nil }
    bytes -= event.byteCount
    if isFull, events.count <= eventsMax / 2, bytes <= bytesMax / 2 {
      isFull = false
      for (source, missed) in missed.sorted(by: { $0.value.order < $1.value.order }) {
        append(.gap(missed.numbers, run: source.run, from: source.endpoint))
      }
      missed = [:]
    }
    return event
  }

  private mutating func append(_ event: SubscriptionEvent) {
    events.append(event)
    bytes += event.byteCount
  }

  private mutating func miss(_ event: SubscriptionEvent) {
    let (source, numbers) =
      switch event {
      case .message(let message, let from):
        (Source(endpoint: from, run: message.run), message.number.map { $0...$0 })
      case .gap(let numbers, let run, let from):
        (Source(endpoint: from, run: run), numbers)
      }
    if let known = missed[source] {
      missed[source]?.numbers = Self.joined(known.numbers, numbers)
    } else if missed.count < Self.missedMax {
      missed[source] = Missed(order: missed.count, numbers: numbers)
    }
  }

  /// Both and what is between them; `nil` where one of them is not known.
  private static func joined(
    _ first: ClosedRange<UInt64>?, _ second: ClosedRange<UInt64>?
  ) -> ClosedRange<UInt64>? {
    guard let first, let second else { return nil }
    return min(first.lowerBound, second.lowerBound)...max(first.upperBound, second.upperBound)
  }
}

extension SubscriptionEvent {
  /// What it costs to keep it, about.
  fileprivate var byteCount: Int {
    guard case .message(let message, _) = self else { return 64 }
    let content =
      switch message.content {
      case .text(let text): text.utf8.count
      case .bytes(let bytes): bytes.count
      }
    return 64 + content + (message.topic?.utf8.count ?? 0)
  }
}
