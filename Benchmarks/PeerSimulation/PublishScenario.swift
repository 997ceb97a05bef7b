internal import Grenache
internal import GrenacheIO

/// A publisher and its subscribers through broken connections, restarts and readers that do not keep up, all
/// drawn from one seed: every message comes once, or a gap names it (P41 for pub/sub; P36).
package final class PublishScenario {
  /// A subscriber and its connection, at both ends.
  private final class Peer {
    let topics: Set<String>?
    let policy: SlowSubscriberPolicy
    var cursor: PublisherCursor
    var feed: SubscriberFeed
    /// Changes with each connection: what is on its way belongs to one.
    var connection = 0
    var isConnected = false
    /// Whether it rests before it connects again.
    var isAway = false
    var inFlight = 0
    /// When the last of what is on its way comes.
    var lastArrival: MonotonicTime?
    /// How many events it keeps before it reads no more.
    let roomMax: Int
    var delay = ReadingDelay()
    /// How many messages TCP takes before the reader does.
    let window: Int
    let readMs: ClosedRange<Int>
    /// By run: what came, and what gaps named.
    var came: [String: [UInt64]] = [:]
    var named: [String: Set<UInt64>] = [:]
    var first: [String: UInt64] = [:]
    var epochs: [String] = []
    /// Runs behind which a gap of unknown size lies.
    var broken: Set<String> = []
    /// Runs to which it had a connection, whether it has heard of them or not.
    var touched: Set<String> = []
    /// Runs that went in order, which it has read soon.
    var endedInTime: Set<String> = []

    init(
      _ topics: Set<String>?, _ policy: SlowSubscriberPolicy, window: Int, roomMax: Int,
      readMs: ClosedRange<Int>
    ) {
      self.roomMax = roomMax
      self.policy = policy
      self.topics = topics
      self.window = window
      self.readMs = readMs
      cursor = PublisherCursor(hasTopics: topics != nil)
      feed = SubscriberFeed(Self.queue(policy))
    }

    static func queue(_ policy: SlowSubscriberPolicy) -> SubscriberQueue {
      SubscriberQueue(messagesMax: 6, bytesMax: 200, policy: policy)
    }
  }

  private enum Frame {
    case opening(String, UInt64)
    case gap(ClosedRange<UInt64>)
    case message(UInt64)
    /// Close code 1001, and when.
    case goingAway(MonotonicTime)
  }

  /// Whoever has read without a rest has read the end of a run so soon: it keeps no more than four events,
  /// of 65 ms at most each.
  private static let soon = Duration.milliseconds(300)

  private let timeline: Timeline
  private let policy: SlowSubscriberPolicy
  private var peers: [Peer] = []
  private var ring = ReplayRing(messagesMax: 8, bytesMax: 400)
  private var run = 0
  private var topics: [String: [UInt64: String]] = [:]
  private var faults: [String] = []
  private var epoch: String { "run \(run)" }

  /// What has gone wrong; empty when everything held. Equal seeds give equal digests.
  package static func run(seed: UInt64) -> (faults: [String], digest: UInt64) {
    let scenario = PublishScenario(seed: seed)
    scenario.live()
    scenario.check()
    return (scenario.faults, scenario.timeline.digest)
  }

  private init(seed: UInt64) {
    timeline = Timeline(seed: seed)
    policy = SlowSubscriberPolicy.allCases[timeline.random(0...2)]
    for _ in 0..<timeline.random(1...5) {
      let wanted: Set<String>? = timeline.chance(50) ? nil : ["a"]
      peers.append(
        Peer(
          wanted, policy, window: timeline.random(1...10), roomMax: timeline.random(1...4),
          readMs: 0...timeline.random(1...60)))
    }
    for peer in peers { connect(peer) }
  }

  private func live() {
    for _ in 0..<timeline.random(50...300) {
      publish()
      if timeline.chance(5), let peer = peers.randomElement(using: &timeline.generator) {
        disconnect(peer)
      }
      if timeline.chance(1) { restart() }
      if timeline.chance(1) { leave() }
      if timeline.chance(1) { leaveTwice() }
      timeline.run(for: timeline.milliseconds(0...60))
    }
    // Everybody is connected and reads at last; a little more says what was lost at the end.
    timeline.run(for: .seconds(20))
    for _ in 0..<3 {
      publish()
      timeline.run(for: .seconds(5))
    }
  }

  // MARK: The publisher

  private func publish() {
    let topic = timeline.chance(50) ? "a" : "b"
    let text = String(repeating: "x", count: timeline.random(1...timeline.random(10...200)))
    let message = ring.append(PubMessage(text, topic: topic))
    guard let number = message.number else { return }
    topics[epoch, default: [:]][number] = topic
    for peer in peers where peer.isConnected { offer(message, number, to: peer) }
  }

  private func offer(_ message: PubMessage, _ number: UInt64, to peer: Peer) {
    let payload = [UInt8](message.text.utf8)
    let outcome = peer.feed.offer(message) { .init(number: number, isText: true, payload: payload) }
    if outcome == .disconnect { disconnect(peer) } else { send(to: peer) }
  }

  private func send(to peer: Peer) {
    while peer.isConnected, peer.inFlight < peer.window, let step = peer.feed.next(from: ring) {
      carry(step, to: peer)
    }
  }

  private func carry(_ step: SubscriberFeed.Step, to peer: Peer) {
    switch step {
    case .overrun where policy == .disconnect: disconnect(peer)
    case .gap(let numbers), .overrun(let numbers): carry(Frame.gap(numbers), to: peer)
    case .replay(_, let number): carry(Frame.message(number), to: peer)
    case .entry(let entry): carry(Frame.message(entry.number), to: peer)
    }
  }

  /// Ends in order, with everything said that waits, and comes back as another run. Who has just come and
  /// was not answered is only told that the publisher goes.
  private func leave() {
    for peer in peers {
      if peer.isConnected {
        while peer.isConnected, let step = peer.feed.next(from: ring) { carry(step, to: peer) }
        if peer.isConnected { carry(.goingAway(timeline.now), to: peer) }
      } else if peer.isAway, timeline.chance(50) {
        peer.touched.insert(epoch)
        peer.cursor.closed(inOrder: true)
      }
    }
    run += 1
    ring = ReplayRing(messagesMax: 8, bytesMax: 400)
    // Nobody who is still connected, to the run before, is told anything of this one.
    for peer in peers where peer.isConnected {
      peer.isConnected = false
    }
  }

  /// Whoever reads late has not seen the first end when there is the second.
  private func leaveTwice() {
    leave()
    for _ in 0..<3 { publish() }
    timeline.run(for: timeline.milliseconds(0...400))
    leave()
  }

  private func restart() {
    run += 1
    ring = ReplayRing(messagesMax: 8, bytesMax: 400)
    for peer in peers { disconnect(peer) }
  }

  // MARK: Connections, which keep the order

  private func connect(_ peer: Peer) {
    peer.connection += 1
    peer.isConnected = true
    peer.isAway = false
    peer.inFlight = 0
    // What the last connection carried is lost, and holds up nothing.
    peer.lastArrival = nil
    peer.delay = ReadingDelay()
    peer.touched.insert(epoch)
    let isKnown = peer.cursor.epoch == epoch
    peer.feed = SubscriberFeed(
      Peer.queue(policy), topics: peer.topics, after: isKnown ? peer.cursor.after : nil)
    carry(.opening(epoch, ring.next), to: peer)
    send(to: peer)
  }

  private func disconnect(_ peer: Peer) {
    guard peer.isConnected else { return }
    peer.isConnected = false
    peer.connection += 1
    peer.cursor.closed(inOrder: false)
    comeBack(peer)
  }

  private func comeBack(_ peer: Peer) {
    peer.isAway = true
    timeline.after(timeline.milliseconds(1...300)) { [self] in connect(peer) }
  }

  private func carry(_ frame: Frame, to peer: Peer) {
    peer.inFlight += 1
    if peer.inFlight > peer.roomMax { peer.delay.paused() }
    let connection = peer.connection
    let earliest = timeline.now + timeline.milliseconds(1...5)
    let due = max(peer.lastArrival ?? earliest, earliest) + timeline.milliseconds(peer.readMs)
    peer.lastArrival = due
    timeline.at(due) { [self] in
      guard peer.connection == connection else { return }
      peer.inFlight -= 1
      if peer.inFlight == peer.roomMax { peer.delay.resumed(at: timeline.now) }
      hear(frame, peer)
      send(to: peer)
    }
  }

  // MARK: Subscribers

  private func hear(_ frame: Frame, _ peer: Peer) {
    switch frame {
    case .opening(let epoch, let next):
      let before = peer.cursor.epoch
      let gap = peer.cursor.opened(epoch: epoch, next: next)
      note(gap, gap == .unknown ? before : epoch, peer)
      // Behind a run whose end nobody knows, what this one has said is told besides.
      if gap == .unknown, next > 1 { note(.numbers(1...next - 1), epoch, peer) }
      if peer.first[epoch] == nil { peer.first[epoch] = next }
      if peer.epochs.last != epoch { peer.epochs.append(epoch) }
    case .gap(let numbers):
      note(peer.cursor.lost(numbers), peer.cursor.epoch, peer)
    case .message(let number):
      timeline.note(Int(number))
      let (isNew, gap) = peer.cursor.received(number)
      note(gap, peer.cursor.epoch, peer)
      if !isNew { faults.append("\(number) comes twice") }
      if let epoch = peer.cursor.epoch { peer.came[epoch, default: []].append(number) }
    case .goingAway(let sentAt):
      peer.connection += 1
      if timeline.now - sentAt < Self.soon, let epoch = peer.cursor.epoch {
        peer.endedInTime.insert(epoch)
      }
      peer.cursor.closed(inOrder: !peer.delay.isLate(at: timeline.now))
      comeBack(peer)
    }
  }

  private func note(_ gap: PublisherCursor.Gap?, _ epoch: String?, _ peer: Peer) {
    guard let gap, let epoch else { return }
    switch gap {
    case .numbers(let numbers): peer.named[epoch, default: []].formUnion(numbers)
    case .unknown: peer.broken.insert(epoch)
    }
  }

  // MARK: What has to hold

  private func check() {
    for (index, peer) in peers.enumerated() {
      if peer.epochs.last != epoch { faults.append("subscriber \(index) did not come back") }
      var before: String?
      for epoch in (0...run).map({ "run \($0)" }) {
        if peer.epochs.contains(epoch) {
          check(peer, index, epoch, isFirst: before == nil)
          before = epoch
        } else if let before {
          checkUnheard(epoch, behind: before, peer, index)
        }
      }
    }
  }

  /// A run that was never heard lies behind one whose end is a gap; or it began and ended between two
  /// connections of one who has kept up, and is nobody's.
  private func checkUnheard(_ epoch: String, behind before: String, _ peer: Peer, _ index: Int) {
    let isWanted = topics[epoch, default: [:]].values.contains { peer.topics?.contains($0) ?? true }
    guard isWanted, !peer.broken.contains(before) else { return }
    if peer.endedInTime.contains(before), !peer.touched.contains(epoch) { return }
    faults.append("subscriber \(index) never hears of \(epoch), behind \(before)")
  }

  /// Of the first run that it hears of, what was said before is nobody's.
  private func check(_ peer: Peer, _ index: Int, _ epoch: String, isFirst: Bool) {
    let came = peer.came[epoch] ?? []
    let named = peer.named[epoch] ?? []
    if came != came.sorted() { faults.append("subscriber \(index) hears out of order") }
    if !named.isDisjoint(with: came) { faults.append("subscriber \(index): named, and came") }
    let end = peer.broken.contains(epoch) ? (came + Array(named)).max() ?? 0 : UInt64.max
    for (number, topic) in topics[epoch] ?? [:]
    where number >= (isFirst ? peer.first[epoch] ?? .max : 1) && number <= end {
      guard peer.topics?.contains(topic) != false else { continue }
      if !came.contains(number), !named.contains(number) {
        faults.append("subscriber \(index) never hears of \(number) of \(epoch)")
      }
    }
  }
}
