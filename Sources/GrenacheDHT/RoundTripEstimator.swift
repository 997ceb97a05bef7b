/// How long answers take, smoothed as RFC 6298 §2 says: when an answer is later than that, it is not
/// waited for.
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

  /// When a node whose own round trip is `known` is slow.
  func slowAfter(known: Duration?, _ configuration: DHTConfiguration) -> Duration {
    guard let smoothed else { return configuration.slowAfter }
    let expected = max(smoothed + variation * 4, (known ?? .zero) * 2)
    return min(max(expected, configuration.slowAfterMin), configuration.slowAfter)
  }
}

extension Duration {
  /// Whole microseconds; a span of more than a day counts as a day.
  var wholeMicroseconds: Int64 {
    let (seconds, attoseconds) = components
    return min(max(seconds, 0), 86_400) * 1_000_000 + attoseconds / 1_000_000_000_000
  }
}
