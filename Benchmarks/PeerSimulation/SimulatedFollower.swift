internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// One who follows a key in virtual time, with a clock of its own. Which grape it looks the key up at, which
/// it asks to tell of changes, and how long it rests is decided by the code of real ones.
final class SimulatedFollower {
  static let lookupInterval = Duration.seconds(5)

  private let timeline: Timeline
  private let clock: NodeClock
  private let grapes: GrapeCaller
  private var schedule = FollowSchedule()
  private(set) var known: Set<Endpoint> = []
  /// The grape that tells of changes at present.
  private(set) var watched: SimulatedGrape?
  private(set) var watchedSince = MonotonicTime(nanoseconds: 0)
  private(set) var lookups = 0
  private(set) var losses = 0

  init(_ grapes: [SimulatedGrape], _ timeline: Timeline) {
    self.timeline = timeline
    clock = NodeClock(timeline)
    self.grapes = GrapeCaller(grapes, clock)
  }

  func lookUp() {
    lookups += 1
    timeline.note(lookups)
    grapes.lookUp { [self] result in
      if case .success(let found) = result { known = Set(found) }
      let worthAsking = grapes.inOrder.filter {
        schedule.isWorthAsking($0.endpoint, at: clock.now)
      }
      watch(worthAsking[...])
    }
  }

  private func watch(_ candidates: ArraySlice<SimulatedGrape>) {
    guard let grape = candidates.first else { return rest() }
    var hasTold = false
    var isOver = false
    let began = clock.now
    var leave: () -> Void = {}
    let end: (FollowSchedule.WatchEnd) -> Void = { [self] end in
      guard !isOver else { return }
      isOver = true
      leave()
      watched = nil
      if end == .lost { losses += 1 }
      let goesOn = schedule.watchEnded(
        end, at: grape.endpoint, lasting: clock.now - began, now: clock.now)
      if goesOn { watch(candidates.dropFirst()) } else { rest() }
    }
    leave = grape.watch { [self] word in
      guard !isOver else { return }
      switch word {
      case .told(let found):
        if !hasTold {
          hasTold = true
          watched = grape
          watchedSince = timeline.now
        }
        known = Set(found)
      case .refused: end(.notOffered)
      case .gone: end(hasTold ? .lost : .unreachable)
      }
    }
    clock.after(GrapeCaller.attemptTimeout) { if !hasTold { end(.unreachable) } }
  }

  private func rest() {
    let rest = schedule.rest(
      lookupInterval: Self.lookupInterval, using: &timeline.generator)
    clock.after(rest) { [self] in lookUp() }
  }
}
