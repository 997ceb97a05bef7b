/// When a subscriber connects to a publisher again, and when it gives it up. Chance and what came of each
/// try are given.
///
///     found → try → (connected → lost) → pause → try …, or give up
package struct ReconnectSchedule {
  /// A publisher that nobody announces any more is tried this often again: what it still says after a
  /// short absence need not be lost.
  package static let failuresMax = 2

  private let delayMin: Duration
  private let delayMax: Duration
  /// How often the next pause has been doubled.
  private var doublings = 0
  /// Pauses since there was a connection.
  private var pauses = 0

  /// - Parameters:
  ///   - delayMin: the first pause.
  ///   - delayMax: the longest one.
  package init(delayMin: Duration, delayMax: Duration) {
    self.delayMin = delayMin
    self.delayMax = delayMax
  }

  /// The publisher has been found.
  ///
  /// - Parameter isNews: whether a grape has told of it just now, and others as well: then they do not come
  ///   all at once.
  /// - Returns: the pause before the first try.
  package func found(
    isNews: Bool, using generator: inout some RandomNumberGenerator
  ) -> Duration {
    isNews ? delayMin * Double.random(in: 0...1, using: &generator) : .zero
  }

  /// A connection is gone.
  ///
  /// - Parameter time: how long it lasted. A publisher that closes at once is none that is well again: it
  ///   is not connected to many times a second.
  /// - Returns: the pause before the next try.
  package mutating func lost(
    after time: Duration, using generator: inout some RandomNumberGenerator
  ) -> Duration {
    pauses = 0
    if time >= delayMax { doublings = 0 }
    return pause(using: &generator)
  }

  /// A try has led to no connection.
  ///
  /// - Returns: the pause before the next try; `nil` to give the publisher up.
  package mutating func failed(
    isAnnounced: Bool, using generator: inout some RandomNumberGenerator
  ) -> Duration? {
    if !isAnnounced, pauses >= Self.failuresMax { return nil }
    return pause(using: &generator)
  }

  /// Drawn by chance between half and all of it, so that many subscribers do not come back at once.
  private mutating func pause(using generator: inout some RandomNumberGenerator) -> Duration {
    let longest = min(delayMin * (1 << doublings), delayMax)
    if longest < delayMax, doublings < 16 { doublings += 1 }
    pauses = min(pauses + 1, Self.failuresMax)
    return longest * Double.random(in: 0.5...1, using: &generator)
  }
}
