/// A service of this node: what announcing and withdrawing it have in common.
struct AnnouncedService: Hashable, Sendable {
  let key: [UInt8]
  let port: UInt16
}

/// A service that is being withdrawn: whoever may still name it is told to forget it, again and again,
/// until he has said that he does, or would have forgotten it by himself.
///
///     needs a token ⇄ has a token → done
struct Withdrawal: Sendable {
  struct Target: Sendable {
    enum Progress: Sendable {
      /// It has none of ours that is good, or was started anew.
      case needsToken
      case hasToken([UInt8])
      /// It has forgotten the service, or never will when told.
      case done
    }
    let contact: DHTContact
    /// When it was last sent an announcement, if that is known.
    let toldAt: Duration?
    var progress: Progress
    var hasForgotten = false
    var isSlow = false
    /// Whether whoever withdraws may have to wait for it.
    var isAwaited = true
    /// How often it has refused a token.
    var refusals = 0

    var isDone: Bool {
      switch progress {
      case .done: true
      case .needsToken, .hasToken: false
      }
    }
  }

  /// For so long at first, and for so long at most, it is repeated at short intervals.
  static let urgency = Duration.seconds(2)
  static let pauseMin = Duration.milliseconds(200)
  static let pauseMax = Duration.seconds(15)
  /// A datagram may be under way, or doubled, for so long: what comes after it counts.
  static let datagramAgeMax = Duration.seconds(1)
  /// Whoever refuses every token that he gives is not asked for ever.
  static let refusalsMax = 3

  /// Who waits for the outcome.
  var ids: [DHTRequestID]
  let service: AnnouncedService
  let began: Duration
  var targets: [Target]
  /// When those that are not done are told again.
  var nextRound: Duration
  private(set) var lastSent: Duration

  init(
    _ ids: [DHTRequestID], _ service: AnnouncedService, _ targets: [Target], now: Duration
  ) {
    (self.ids, self.service, self.targets) = (ids, service, targets)
    (began, nextRound, lastSent) = (now, now, now)
  }

  var forgottenCount: Int { targets.count { $0.hasForgotten } }
  var isDone: Bool { targets.allSatisfy(\.isDone) }

  /// Whether the outcome can be told: nobody waits for slow nodes once another one has forgotten it.
  var isSettled: Bool {
    let hasForgotten = targets.contains(where: \.hasForgotten)
    return targets.allSatisfy { !$0.isAwaited || $0.isSlow && hasForgotten }
  }

  /// What the next round sends; `slow` is how long an answer takes at most, commonly.
  mutating func beginRound(slow: Duration, now: Duration) {
    lastSent = now
    let elapsed = now - began
    nextRound =
      now
      + (elapsed < Self.urgency
        ? max(slow, Self.pauseMin) : min(max(elapsed / 2, .seconds(1)), Self.pauseMax))
  }

  /// An answer has come to a query that was sent then.
  mutating func answered(_ index: Int, sentAt: Duration) {
    targets[index].hasForgotten = true
    targets[index].isAwaited = false
    // An announcement that was overtaken by the query would be kept after it.
    if let told = targets[index].toldAt, sentAt < told + Self.datagramAgeMax { return }
    targets[index].progress = .done
  }

  /// It does not know the token; returns whether it is to be asked for another.
  mutating func tokenRefused(_ index: Int) -> Bool {
    targets[index].refusals += 1
    guard targets[index].refusals < Self.refusalsMax else {
      gaveUp(index)
      return false
    }
    targets[index].progress = .needsToken
    return true
  }

  mutating func gaveUp(_ index: Int) {
    targets[index].progress = .done
    targets[index].isAwaited = false
  }
}

/// The withdrawals under way.
struct Withdrawals: Sendable {
  private var states: [UInt64: Withdrawal] = [:]
  private var numbers: [AnnouncedService: UInt64] = [:]
  /// Services that are announced once more: their withdrawal may overtake what announced them.
  private var announcedAgain: [(time: Duration, service: AnnouncedService)] = []
  /// Not later than anything that is due.
  private(set) var nextDeadline: Duration?
  private let configuration: DHTConfiguration

  init(_ configuration: DHTConfiguration) {
    self.configuration = configuration
  }

  subscript(number: UInt64) -> Withdrawal? { states[number] }

  func number(of service: AnnouncedService) -> UInt64? { numbers[service] }

  var count: Int { states.count }
  var isFull: Bool { states.count >= configuration.withdrawalsMax }
  /// The one that has lasted longest.
  var oldest: UInt64? { states.keys.min() }

  mutating func set(_ number: UInt64, _ state: Withdrawal) {
    states[number] = state
    numbers[state.service] = number
    nextDeadline = min(nextDeadline ?? state.nextRound, state.nextRound)
  }

  mutating func end(_ number: UInt64) -> Withdrawal? {
    guard let state = states.removeValue(forKey: number) else { return nil }
    if numbers[state.service] == number { numbers[state.service] = nil }
    return state
  }

  mutating func announceAgain(_ service: AnnouncedService, at time: Duration) {
    guard announcedAgain.count < configuration.withdrawalsMax else { return }
    announcedAgain.append((time, service))
    nextDeadline = min(nextDeadline ?? time, time)
  }

  mutating func cancelAnnouncement(of service: AnnouncedService) {
    announcedAgain.removeAll { $0.service == service }
  }

  /// What is due, in the order in which it began, or a seed would not replay a simulation.
  mutating func due(at now: Duration) -> (rounds: [UInt64], announcements: [AnnouncedService]) {
    guard let next = nextDeadline, next <= now else { return ([], []) }
    let rounds = states.filter { $0.value.nextRound <= now }.keys.sorted()
    let announcements = announcedAgain.filter { $0.time <= now }.map(\.service)
    announcedAgain.removeAll { $0.time <= now }
    nextDeadline = announcedAgain.map(\.time).min()
    for (_, state) in states where state.nextRound > now {
      nextDeadline = min(nextDeadline ?? state.nextRound, state.nextRound)
    }
    return (rounds, announcements)
  }
}
