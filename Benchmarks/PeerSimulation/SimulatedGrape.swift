internal import Grenache
internal import GrenacheIO
internal import GrenacheTransport

/// A grape in virtual time: what it knows, and in which ways it can fail those who ask.
final class SimulatedGrape {
  enum Mood: CaseIterable {
    case healthy
    /// It answers with what it knew once.
    case stale
    /// It refuses connections.
    case down
    /// It takes requests and never answers.
    case hanging
    /// It answers with what cannot be understood, or with 500.
    case erring
    /// It says no.
    case refusing
  }
  enum Answer {
    case found([Endpoint])
    case failed
    case refused
  }
  /// What somebody who watches hears.
  enum Word {
    case told([Endpoint])
    case refused
    /// The connection is gone, or was never made.
    case gone
  }

  let endpoint: Endpoint
  private let timeline: Timeline
  var latencyMs = 1...10
  private(set) var mood = Mood.healthy
  /// Whether it is an existing one, which offers no `watch`.
  var isOld = false
  private var announced: [Endpoint] = []
  /// What it answers with while it is stale.
  private var frozen: [Endpoint] = []
  private var watchers: [Int: (Word) -> Void] = [:]
  private var lastWatcher = 0

  init(_ number: Int, _ timeline: Timeline) {
    endpoint = Endpoint(host: "10.1.0.\(number + 1)", port: 30_001)
    self.timeline = timeline
  }

  private var latency: Duration { timeline.milliseconds(latencyMs) }
  private var known: [Endpoint] { mood == .stale ? frozen : announced }

  func turn(_ mood: Mood) {
    guard mood != self.mood else { return }
    if mood == .stale { frozen = announced }
    self.mood = mood
    switch mood {
    case .healthy: tellAll(.told(announced))
    case .stale: break
    case .down, .erring: endWatches(after: .zero, .gone)
    case .refusing: endWatches(after: .zero, .refused)
    // The keep-alive of those who watch gives up.
    case .hanging: endWatches(after: .seconds(15), .gone)
    }
  }

  /// Has it know, after a time, whether somebody announces itself by then.
  func note(
    _ endpoint: Endpoint, after lag: Duration, _ isAnnounced: @escaping () -> Bool
  ) {
    timeline.after(lag) { [self] in
      announced.removeAll { $0 == endpoint }
      if isAnnounced() { announced.append(endpoint) }
      if mood == .healthy { tellAll(.told(announced)) }
    }
  }

  func lookUp(_ answer: @escaping (Answer) -> Void) {
    timeline.after(latency) { [self] in
      guard mood != .hanging else { return }
      let answered: Answer =
        switch mood {
        case .healthy, .stale: .found(listing())
        case .refusing: .refused
        case .down, .erring, .hanging: .failed
        }
      timeline.after(latency) { answer(answered) }
    }
  }

  /// In any order, and now and then with somebody twice.
  private func listing() -> [Endpoint] {
    var list = known
    if timeline.chance(20) { list.shuffle(using: &timeline.generator) }
    if timeline.chance(10), let first = list.first { list.append(first) }
    return list
  }

  // MARK: Watches

  /// Has `hear` told of changes until it is gone or refused.
  ///
  /// - Returns: what gives it up.
  func watch(_ hear: @escaping (Word) -> Void) -> () -> Void {
    lastWatcher += 1
    let number = lastWatcher
    timeline.after(latency * 2) { [self] in
      if isOld || mood == .refusing || mood == .erring { return hear(.refused) }
      if mood == .down { return hear(.gone) }
      guard mood != .hanging else { return }
      watchers[number] = hear
      // It may die between the upgrade and its first word.
      timeline.after(latency) { [self] in
        guard let hear = watchers[number], mood != .hanging else { return }
        hear(.told(known))
      }
    }
    return { [self] in watchers[number] = nil }
  }

  private func tellAll(_ word: Word) {
    // In order, as over TCP: all that is said takes as long.
    let delay = latencyMs.upperBound
    for number in watchers.keys.sorted() {
      timeline.after(.milliseconds(delay)) { [self] in watchers[number]?(word) }
    }
  }

  private func endWatches(after time: Duration, _ word: Word) {
    for number in watchers.keys.sorted() {
      timeline.after(time + .milliseconds(latencyMs.upperBound)) { [self] in
        watchers.removeValue(forKey: number)?(word)
      }
    }
  }
}
