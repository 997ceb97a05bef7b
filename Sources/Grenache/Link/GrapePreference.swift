package import GrenacheIO

/// Which grape is asked first: the first of the list, or, once another one has answered in its place or those
/// in front have let the time pass, that one for a while. Then the first is tried again, which may be back.
package struct GrapePreference: Sendable {
  /// How long another one than the first is asked first.
  package static let time = Duration.seconds(60)

  private var index = 0
  private var until = MonotonicTime(nanoseconds: 0)

  package init() {}

  /// Whom to begin with.
  package func first(at now: MonotonicTime) -> Int { now < until ? index : 0 }

  /// That grape is the one to begin with.
  package mutating func answered(_ grape: Int, at now: MonotonicTime) {
    guard grape != first(at: now) else { return }
    index = grape
    until = now + Self.time
  }

  /// What that grape has said is of no use: another one of so many may know better.
  package mutating func distrust(_ grape: Int, of count: Int, at now: MonotonicTime) {
    if count > 1 { answered((grape + 1) % count, at: now) }
  }
}
