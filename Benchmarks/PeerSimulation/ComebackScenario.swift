internal import Grenache
internal import GrenacheIO

/// A thousand subscribers of a publisher that goes, in order or not, and comes back later, or comes back and
/// closes every connection for a while, all drawn from one seed (P37, P41 for pub/sub). When each connects
/// again is decided by the code of real ones. What has to hold:
///
/// - Everybody is back within 10 s from when the publisher is, and is announced, though a try of each be lost.
/// - No 10 ms hold more than a sixth of a thousand tries to connect, whatever the subscribers had in common:
///   the end of their connections, or the word that the publisher is there again.
/// - While it is away nobody tries more often than once in half the longest pause, but for the first few.
package final class ComebackScenario {
  package static let count = 1_000
  /// The part of them that may try within 10 ms.
  package static let peakMax = count / 6

  /// How the publisher goes.
  private enum Kind: CaseIterable {
    /// It is withdrawn, and announced again.
    case inOrder
    /// It stays announced.
    case crash
    /// It is there again soon, and for a while it closes what it takes.
    case refusing
  }
  private struct Subscriber {
    var pace = ReconnectPace()
    var isBack = false
    var hasGivenUp = false
    var tries = 0
    /// Whether one of its tries has been lost since the publisher is there again.
    var hasLost = false
  }

  private let configuration = PeerSubConfiguration()
  private let timeline: Timeline
  private let kind: Kind
  private let lossPercent: Int
  private let handshake: Duration
  private var subscribers: [Subscriber] = []
  private var isUp = false
  private var isRefusing = false
  private var isAnnounced = true
  /// When the publisher has made the handshakes of those who wait.
  private var lineEnds = MonotonicTime(nanoseconds: 0)
  /// Tries, by hundredths of a second.
  private var tries: [Int: Int] = [:]
  private var backCount = 0
  private var faults: [String] = []

  /// What has gone wrong; empty when everything held. Equal seeds give equal digests.
  package static func run(seed: UInt64) -> (faults: [String], digest: UInt64) {
    let scenario = ComebackScenario(seed: seed)
    scenario.live()
    scenario.timeline.clear()
    return (scenario.faults, scenario.timeline.digest)
  }

  private init(seed: UInt64) {
    timeline = Timeline(seed: seed)
    kind = Kind.allCases[timeline.random(0...2)]
    lossPercent = timeline.random(0...5)
    // All of them take 3 s at most.
    handshake = timeline.milliseconds(1...3)
    subscribers = Array(repeating: Subscriber(), count: Self.count)
  }

  private var latency: Duration { timeline.milliseconds(1...10) }

  private func live() {
    let away = timeline.milliseconds(kind == .refusing ? 0...200 : 0...30_000)
    for index in subscribers.indices {
      timeline.after(latency) { [self] in lost(index, after: .seconds(60)) }
    }
    if kind == .inOrder {
      let withdrawal = min(timeline.milliseconds(0...500), away)
      timeline.after(withdrawal) { [self] in isAnnounced = false }
    }
    timeline.run(for: away)
    isUp = true
    var absence = away
    if kind == .refusing {
      isRefusing = true
      absence += .seconds(30)
      timeline.run(for: .seconds(30))
      isRefusing = false
    }
    checkTries(within: absence)
    timeline.run(for: timeline.milliseconds(0...500))
    announce()
    timeline.run(for: .seconds(10))
    if backCount < Self.count {
      faults.append("\(Self.count - backCount) are not back after 10 s (\(kind))")
    }
    let peak = tries.values.max() ?? 0
    if peak > Self.peakMax { faults.append("\(peak) connect within 10 ms (\(kind))") }
  }

  /// Whoever watches is told at once; who has given the publisher up begins anew.
  private func announce() {
    isAnnounced = true
    for index in subscribers.indices {
      timeline.after(latency) { [self] in
        guard subscribers[index].hasGivenUp else { return }
        subscribers[index].hasGivenUp = false
        subscribers[index].pace = ReconnectPace()
        let share = Double.random(in: 0...1, using: &timeline.generator)
        timeline.after(configuration.firstConnectDelayMax * share) { [self] in connect(index) }
      }
    }
  }

  private func checkTries(within absence: Duration) {
    let longest = configuration.reconnectDelayMax.milliseconds
    let most = absence.milliseconds / (longest / 2) + 6
    for (index, subscriber) in subscribers.enumerated() where Double(subscriber.tries) > most {
      return faults.append(
        "subscriber \(index) tries \(subscriber.tries) times in \(absence) (\(kind))")
    }
  }

  // MARK: Subscribers

  private func connect(_ index: Int) {
    subscribers[index].tries += 1
    tries[Int(timeline.now.nanoseconds / 10_000_000), default: 0] += 1
    // One try of each may be lost.
    let isLost = !subscribers[index].hasLost && timeline.chance(lossPercent)
    if isUp, isLost { subscribers[index].hasLost = true }
    guard isUp, !isLost else {
      return timeline.after(latency) { [self] in failed(index) }
    }
    lineEnds = max(lineEnds, timeline.now) + handshake
    guard lineEnds - timeline.now < configuration.connectTimeout else {
      return timeline.after(configuration.connectTimeout) { [self] in failed(index) }
    }
    timeline.at(lineEnds + latency) { [self] in
      if isRefusing { return lost(index, after: .milliseconds(1)) }
      subscribers[index].isBack = true
      backCount += 1
      timeline.note(index)
    }
  }

  private func lost(_ index: Int, after time: Duration) {
    if subscribers[index].pace.connectionEnded(hasHeard: false, after: time) {
      rest(index)
    } else {
      restOrGiveUp(index)
    }
  }

  private func failed(_ index: Int) {
    subscribers[index].pace.connectFailed()
    restOrGiveUp(index)
  }

  private func restOrGiveUp(_ index: Int) {
    guard subscribers[index].pace.isToGiveUp, !isAnnounced else { return rest(index) }
    subscribers[index].hasGivenUp = true
  }

  private func rest(_ index: Int) {
    let pause = subscribers[index].pace.pause(
      from: configuration.reconnectDelayMin, to: configuration.reconnectDelayMax,
      using: &timeline.generator)
    timeline.after(pause) { [self] in connect(index) }
  }
}
