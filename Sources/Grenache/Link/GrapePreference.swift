internal import GrenacheIO

/// Which grape is asked first: the first of the list, or, once another one has answered in its place, that
/// one for a while. Then the first is tried again, which may be back.
struct GrapePreference {
  /// How long another one than the first is asked first.
  static let time = Duration.seconds(60)

  private var index = 0
  private var until = MonotonicTime(nanoseconds: 0)

  /// Whom to begin with.
  func first(at now: MonotonicTime) -> Int { now < until ? index : 0 }

  mutating func answered(_ grape: Int, at now: MonotonicTime) {
    guard grape != first(at: now) else { return }
    index = grape
    until = now + Self.time
  }
}
