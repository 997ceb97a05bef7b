/// What one subscriber is still to be sent, and in which order: first what it missed, straight from the
/// replay ring as it takes it, then what waits in its queue. It decides and sends nothing itself.
///
///     replaying (behind a number) → live
package struct SubscriberFeed {
  /// The next thing to send.
  package enum Step: Hashable {
    /// These are missing.
    case gap(ClosedRange<UInt64>)
    /// These are missing, because it does not take what the ring holds for it as fast as that goes on.
    case overrun(ClosedRange<UInt64>)
    /// A message of the ring.
    case replay(PubMessage, UInt64)
    /// What waited in the queue.
    case entry(SubscriberQueue.Entry)
  }

  private var queue: SubscriberQueue
  private let topics: Set<String>?
  /// Up to here it has been sent what the ring holds; `nil` once it has caught up.
  private var replayedUpTo: UInt64?
  /// Whether something of the ring has been looked for already: what is missing then was there.
  private var hasBegunReplay = false
  /// What lies before the entry that is to be sent next.
  private var held: SubscriberQueue.Entry?

  /// - Parameters:
  ///   - topics: what it wants; `nil` for everything.
  ///   - after: the last number that it knows of this run, if it knows one.
  package init(_ queue: SubscriberQueue, topics: Set<String>? = nil, after: UInt64? = nil) {
    self.queue = queue
    self.topics = topics
    replayedUpTo = after
  }

  package var bytes: Int { queue.bytes + (held?.payload.count ?? 0) }

  private func wants(_ topic: String?) -> Bool {
    guard let topics else { return true }
    return topic.map(topics.contains) ?? false
  }

  /// A message has been published, and is in the ring; its form is made only if it is to wait.
  package mutating func offer(
    _ message: PubMessage, _ entry: () -> SubscriberQueue.Entry
  ) -> SubscriberQueue.Outcome {
    // While it is behind, the ring keeps for it what comes.
    guard replayedUpTo == nil, wants(message.topic) else { return .queued }
    return queue.append(entry())
  }

  /// What to send now; `nil` when there is nothing.
  package mutating func next(from ring: ReplayRing) -> Step? {
    while let number = replayedUpTo {
      let (missing, messages) = ring.replay(after: number)
      let isLate = hasBegunReplay
      hasBegunReplay = true
      if let missing {
        replayedUpTo = missing.upperBound
        return isLate ? .overrun(missing) : .gap(missing)
      }
      guard let message = messages.first, let next = message.number else {
        replayedUpTo = nil
        break
      }
      replayedUpTo = next
      if wants(message.topic) { return .replay(message, next) }
    }
    if let entry = held {
      held = nil
      return .entry(entry)
    }
    guard let entry = queue.popFirst() else { return queue.takeLostAtEnd().map(Step.gap) }
    guard let lost = entry.lostBefore else { return .entry(entry) }
    held = entry
    return .gap(lost)
  }
}
