internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// The grapes as one node asks them. Whom it asks, and for how long, is decided by the code of real ones.
final class GrapeCaller {
  static let attemptTimeout = Duration.seconds(2.5)

  let grapes: [SimulatedGrape]
  private let clock: NodeClock
  private var preference = GrapePreference()
  /// The one that answered the last lookup.
  private var naming = 0

  init(_ grapes: [SimulatedGrape], _ clock: NodeClock) {
    self.grapes = grapes
    self.clock = clock
  }

  /// The first of them is asked first.
  var first: Int { preference.first(at: clock.now) }
  var inOrder: [SimulatedGrape] { Array(grapes[first...] + grapes[..<first]) }

  /// What the one that answered last has said is of no use.
  func distrust() { preference.distrust(naming, of: grapes.count, at: clock.now) }

  func lookUp(_ done: @escaping (Result<[Endpoint], GrenacheError>) -> Void) {
    let round = GrapeRound(
      of: grapes.count, from: first, attemptTimeout: Self.attemptTimeout)
    step(round, done)
  }

  private func step(
    _ round: GrapeRound, _ done: @escaping (Result<[Endpoint], GrenacheError>) -> Void
  ) {
    var round = round
    switch round.next(at: clock.now) {
    case .fail(let error):
      done(.failure(error))
    case .ask(let index, let limit):
      var isOver = false
      let finish: (SimulatedGrape.Answer) -> Void = { [self] answer in
        guard !isOver else { return }
        isOver = true
        switch answer {
        case .found(let endpoints):
          preference.answered(index, at: clock.now)
          naming = index
          done(.success(endpoints))
        case .refused:
          done(.failure(GrenacheError(.grapeRefused, "it says no")))
        case .failed:
          round.failed(GrenacheError(.grapeUnreachable, "it cannot be asked"))
          step(round, done)
        }
      }
      clock.at(limit) { finish(.failed) }
      grapes[index].lookUp(finish)
    }
  }
}
