internal import GrenacheIO

/// Whether a stream moves, by looking now and then at how many bytes of it have.
struct IdleWatch: Hashable {
  /// How often to look.
  static let interval = Duration.seconds(1)

  private var bytes = 0
  private var movedAt: MonotonicTime

  /// Watches a stream of which nothing has moved since `now`.
  init(at now: MonotonicTime) {
    movedAt = now
  }

  /// Whether nothing has moved for `timeout`.
  ///
  /// - Parameter moved: the bytes that have so far, in both directions.
  mutating func isIdle(_ moved: Int, at now: MonotonicTime, for timeout: Duration) -> Bool {
    guard moved == bytes else {
      bytes = moved
      movedAt = now
      return false
    }
    return now - movedAt >= timeout
  }
}
