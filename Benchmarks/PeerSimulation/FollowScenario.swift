internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// Followers of a key through grapes that die, hang, refuse, are cut off or offer no watch, while workers come
/// and go, all drawn from one seed (P41 for the link; P27). What has to hold:
///
/// - Who has been told by a watch that lasts hears of a change within the time that it takes to the grape,
///   and 1 s; everybody does within 15 s where one grape is well, none is cut off or says no, and nothing
///   has befallen them for as long as a keep-alive takes to notice it.
/// - Lookups do not storm: a handful for each watch that is lost, and else not more often than they are due.
/// - When everything is well again, everybody knows exactly who announces, and is told by a watch again where
///   a grape offers one: within 30 s if it was gone, within 100 s if it refused.
package final class FollowScenario {
  private let timeline: Timeline
  private let grapes: [SimulatedGrape]
  private let followers: [SimulatedFollower]
  private var workers: Set<Endpoint> = []
  private var changes = 0
  private var lagMs: Int
  /// Whether no grape has ever said that it offers nothing.
  private var isAlwaysOffered = true
  private var lastTrouble: MonotonicTime
  private var faults: [String] = []

  /// What has gone wrong; empty when everything held. Equal seeds give equal digests.
  package static func run(seed: UInt64) -> (faults: [String], digest: UInt64) {
    let scenario = FollowScenario(seed: seed)
    scenario.live()
    scenario.heal()
    scenario.timeline.clear()
    return (scenario.faults, scenario.timeline.digest)
  }

  private init(seed: UInt64) {
    let timeline = Timeline(seed: seed)
    self.timeline = timeline
    let grapes = (0..<timeline.random(1...3)).map { SimulatedGrape($0, timeline) }
    self.grapes = grapes
    followers = (0..<timeline.random(1...3)).map { _ in SimulatedFollower(grapes, timeline) }
    lagMs = timeline.random(0...900)
    lastTrouble = timeline.now
    for grape in grapes {
      grape.latencyMs = 1...timeline.random(1...40)
      grape.isOld = timeline.chance(15)
      if grape.isOld { isAlwaysOffered = false }
    }
    for follower in followers {
      timeline.after(timeline.milliseconds(0...1_000)) { follower.lookUp() }
    }
  }

  private func live() {
    for _ in 0..<timeline.random(10...40) {
      if timeline.chance(50) { change() }
      if timeline.chance(40) { befall() }
      timeline.run(for: timeline.milliseconds(0...timeline.random(100...30_000)))
    }
  }

  private func befall() {
    let grape = grapes[timeline.random(0...grapes.count - 1)]
    let mood = SimulatedGrape.Mood.allCases[timeline.random(0...5)]
    lastTrouble = timeline.now
    if mood == .refusing || mood == .erring { isAlwaysOffered = false }
    grape.turn(mood)
  }

  /// A worker comes or goes.
  private func change() {
    let endpoint = Endpoint(host: "10.0.0.1", port: UInt16(timeline.random(1...5)))
    let comes = !workers.contains(endpoint)
    if comes { workers.insert(endpoint) } else { workers.remove(endpoint) }
    changes += 1
    let (time, number) = (timeline.now, changes)
    for grape in grapes {
      grape.note(endpoint, after: .milliseconds(lagMs)) { comes }
    }
    timeline.after(.milliseconds(lagMs + 1_000)) { [self] in
      if number == changes { checkWatches(since: time) }
    }
    timeline.after(.milliseconds(lagMs + 15_000)) { [self] in
      if number == changes, lastTrouble + .seconds(20) < time { checkLookups() }
    }
  }

  private func checkWatches(since time: MonotonicTime) {
    for (number, follower) in followers.enumerated() {
      guard let grape = follower.watched, grape.mood == .healthy,
        follower.watchedSince <= time, lastTrouble < time, follower.known != workers
      else { continue }
      faults.append("follower \(number) watches and is not told")
    }
  }

  private func checkLookups() {
    let moods = grapes.map(\.mood)
    guard moods.contains(.healthy), !moods.contains(.stale), !moods.contains(.refusing) else {
      return
    }
    for (number, follower) in followers.enumerated() where follower.known != workers {
      faults.append("follower \(number) does not hear of a change")
    }
  }

  private func heal() {
    for grape in grapes { grape.turn(.healthy) }
    lastTrouble = timeline.now
    // A watch that hangs is given up, a rest ends, and the next one is asked for.
    timeline.run(for: .seconds(30))
    if isAlwaysOffered { expectWatches() }
    timeline.run(for: .seconds(70))
    if grapes.contains(where: { !$0.isOld }) { expectWatches() }
    change()
    timeline.run(for: .seconds(20))
    for (number, follower) in followers.enumerated() {
      if follower.known != workers {
        faults.append("follower \(number) does not know who is there")
      }
      let lived = (timeline.now - MonotonicTime(nanoseconds: 1_000_000_000)).milliseconds
      let due = lived / (SimulatedFollower.lookupInterval.milliseconds * 0.75 / 1.02)
      if Double(follower.lookups) > due + Double(7 * (follower.losses + 1)) {
        faults.append("follower \(number) looks up \(follower.lookups) times")
      }
    }
  }

  private func expectWatches() {
    for (number, follower) in followers.enumerated() where follower.watched == nil {
      faults.append("follower \(number) is not told of changes, though a grape would")
    }
  }
}
