/// How long one node's answers take, smoothed, and by how much they vary.
struct RoundTrip: Hashable, Sendable {
  var smoothed: Duration
  var variation: Duration
}

/// How long answers take, of all nodes, smoothed as RFC 6298 §2 says. An answer that takes longer than
/// most is late: somebody else is asked beside that node, and who has found something waits no longer.
/// When it takes longer than hardly any does, it is slow: nobody waits for it.
struct RoundTripEstimator: Sendable {
  private var smoothed: Duration?
  private var variation = Duration.zero

  mutating func note(_ sample: Duration) {
    guard let smoothed else {
      self.smoothed = sample
      variation = sample / 2
      return
    }
    let difference = sample > smoothed ? sample - smoothed : smoothed - sample
    variation = (variation * 3 + difference) / 4
    self.smoothed = (smoothed * 7 + sample) / 8
  }

  /// Whether any answer has come yet.
  var isEmpty: Bool { smoothed == nil }

  /// When the answer of a node is slow whose own round trip is `known`. Whoever stores something goes on
  /// without those that are: the doubt is in their favour.
  func slowAfter(known: RoundTrip?, _ configuration: DHTConfiguration) -> Duration {
    guard let smoothed else { return configuration.slowAfter }
    let own = known.map { $0.smoothed + $0.variation * 4 } ?? .zero
    let expected = max(smoothed + variation * 4, own)
    return min(max(expected, configuration.slowAfterMin), configuration.slowAfter)
  }

  /// How long hardly any answer of one node takes. From few answers its variation is not known: it is
  /// hardly larger than that of all of them.
  private func most(of known: RoundTrip?) -> Duration? {
    known.map {
      $0.smoothed + (isEmpty ? $0.variation : min($0.variation, variation)) * 4
    }
  }

  /// The same for when it is late: what is known of the node itself counts more than what is of others.
  func lateAfter(known: RoundTrip?, _ configuration: DHTConfiguration) -> Duration {
    let slow = slowAfter(known: known, configuration)
    guard let expected = most(of: known) ?? smoothed.map({ $0 + variation * 2 }) else {
      return slow
    }
    return min(max(expected, configuration.slowAfterMin), slow)
  }
}

extension Duration {
  /// Whole seconds, in few bytes.
  var clampedSeconds: UInt32 { UInt32(clamping: components.seconds) }

  /// Whole microseconds; a span of more than a day counts as a day.
  var wholeMicroseconds: Int64 {
    let (seconds, attoseconds) = components
    return min(max(seconds, 0), 86_400) * 1_000_000 + attoseconds / 1_000_000_000_000
  }
}
