package import GrenacheTransport

/// Whom one `map` calls, and when: every worker once, or a number of them drawn by chance, so many at the
/// same time. It calls nobody itself.
package struct RPCMapPlan {
  /// Those that have not been called yet, the next one last.
  private var waiting: [Endpoint]
  private var underWay = 0
  private let concurrencyMax: Int

  /// - Parameters:
  ///   - found: what a lookup has found; who is named twice is called once.
  ///   - limit: how many of them are called; `nil` for all.
  ///   - concurrencyMax: how many are called at the same time; one at least.
  package init(
    _ found: [Endpoint], limit: Int?, concurrencyMax: Int,
    using generator: inout some RandomNumberGenerator
  ) {
    var known: Set<Endpoint> = []
    waiting = found.reversed().filter { known.insert($0).inserted }
    self.concurrencyMax = max(1, concurrencyMax)
    guard let limit, limit < waiting.count else { return }
    waiting.shuffle(using: &generator)
    waiting.removeLast(waiting.count - max(limit, 0))
  }

  /// The worker to call now; `nil` when all have been called, or enough of them are at present.
  package mutating func next() -> Endpoint? {
    guard underWay < concurrencyMax, let worker = waiting.popLast() else { return nil }
    underWay += 1
    return worker
  }

  /// A call has ended, in whatever way.
  package mutating func ended() { underWay -= 1 }
}
