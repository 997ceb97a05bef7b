internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport
internal import Logging
internal import Metrics

/// The part of a publisher that lives on one loop: its subscribers there, and what is kept for those that
/// come back. Each loop counts for itself, so that a subscriber that comes back to another loop is told
/// of a gap: a publisher has one loop unless it is given more.
final class PubShard {
  let key: String
  let epoch: String
  let configuration: PeerPubConfiguration
  private let logger: Logger
  private(set) var ring: ReplayRing
  private(set) var dropped = 0
  private var subscribers: [ObjectIdentifier: Subscriber] = [:]
  /// Whether subscribers are told that this was all.
  private var isEnding = false

  private let audience: PubAudience

  init(
    key: String, epoch: String, _ configuration: PeerPubConfiguration, audience: PubAudience,
    logger: Logger
  ) {
    self.key = key
    self.audience = audience
    self.epoch = "\(epoch).\(UUIDText.random().prefix(8))"
    self.configuration = configuration
    self.logger = logger
    ring = ReplayRing(
      messagesMax: configuration.replayMessagesMax, bytesMax: configuration.replayBytesMax)
  }

  /// What is held for the subscriber that is furthest behind.
  var heldBytesMax: Int { subscribers.values.map(\.heldBytes).max() ?? 0 }

  /// From now on nothing more is said.
  func end() { isEnding = true }

  /// What is said counts again.
  func begin() { isEnding = false }

  func publish(
    _ message: PubMessage, on loop: isolated EventLoop
  ) throws(GrenacheError) {
    guard !isEnding else {
      throw GrenacheError(.shuttingDown, "the publisher of \(key) shuts down, or has")
    }
    let numbered = ring.append(message)
    guard let number = numbered.number, !subscribers.isEmpty else { return }
    // Each form is made once, for all.
    let forms = PubForms(numbered, number)
    for subscriber in Array(subscribers.values) {
      subscriber.offer(numbered, forms, on: loop)
    }
  }

  var emptyQueue: SubscriberQueue {
    SubscriberQueue(
      messagesMax: configuration.queueMessagesMax, bytesMax: configuration.queueBytesMax,
      policy: configuration.slowSubscribers)
  }

  func add(_ subscriber: Subscriber) {
    guard subscribers.updateValue(subscriber, forKey: ObjectIdentifier(subscriber)) == nil else {
      return
    }
    audience.change(by: 1)
  }

  func remove(_ subscriber: Subscriber) {
    guard subscribers.removeValue(forKey: ObjectIdentifier(subscriber)) != nil else { return }
    audience.change(by: -1)
  }

  func abort(on loop: isolated EventLoop) {
    for subscriber in Array(subscribers.values) { subscriber.abort(on: loop) }
  }

  func noteDropped(_ count: Int) {
    dropped += count
    Counter(label: "grenache_messages_dropped_total", dimensions: [("key", key)])
      .increment(by: count)
  }
}

/// A message as subscribers get it: with its number, or plain. Each form is made at most once.
final class PubForms {
  private let message: PubMessage
  private let number: UInt64
  private var counted: [UInt8]?
  private var plain: [UInt8]?

  init(_ message: PubMessage, _ number: UInt64) {
    self.message = message
    self.number = number
  }

  func entry(isExtended: Bool) -> SubscriberQueue.Entry {
    let isText = if case .text = message.content { true } else { false }
    return .init(number: number, isText: isText, payload: payload(isExtended))
  }

  private func payload(_ isExtended: Bool) -> [UInt8] {
    if let known = isExtended ? counted : plain { return known }
    let made = PubWire.payload(message, number: isExtended ? number : nil)
    if isExtended { counted = made } else { plain = made }
    return made
  }
}

/// One connection of a subscriber, confined to its loop.
///
///     waiting (the extension: for what it subscribes to) → subscribed → closed
final class Subscriber: WebSocketHandler, LoopTimerTarget {
  private let shard: PubShard
  private var feed: SubscriberFeed
  private var connection: WebSocketConnection?
  private var isExtended = false
  private var isSubscribed = false
  private var isClosed = false
  private var isDraining = false
  private lazy var timer = TargetTimer(self)

  init(_ shard: PubShard, on loop: isolated EventLoop) {
    self.shard = shard
    feed = SubscriberFeed(shard.emptyQueue)
  }

  /// What waits for it, here and in the connection.
  var heldBytes: Int { feed.bytes + (connection?.pendingOutputBytes ?? 0) }

  /// The first pass comes with the opening handshake, whether anything has been said or not.
  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {
    if self.connection == nil, !isClosed { opened(connection, on: loop) }
  }

  private func opened(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    self.connection = connection
    isExtended = connection.subprotocol == PubWire.subprotocol
    if isExtended {
      loop.core.arm(timer, after: shard.configuration.openingTimeout)
    } else {
      // Connecting is subscribing, for existing subscribers.
      isSubscribed = true
      shard.add(self)
    }
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    // What existing subscribers say is ignored, and so is what comes after the first word.
    if self.connection == nil { opened(connection, on: loop) }
    guard isExtended, !isSubscribed else { return }
    guard kind == .text, let opening = PubWire.subscribe(from: payload.copy()),
      (opening.topics?.count ?? 0) <= shard.configuration.topicsMax,
      opening.topics?.allSatisfy({ PubMessage.isTopic($0) }) ?? true
    else { return connection.close(.policyViolation, reason: "no subscription", on: loop) }
    subscribe(opening, on: loop)
  }

  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    connection?.close(.policyViolation, reason: "no subscription in time", on: loop)
  }

  func drained(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    send(on: loop)
  }

  func abort(on loop: isolated EventLoop) {
    let gone = TransportError(.connectionClosed, stage: .transfer, message: "broken off")
    connection?.abort(gone, on: loop)
  }

  /// What waits is sent before the connection closes: 1001 tells the subscriber that this was all.
  func drain(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    isDraining = true
    send(on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    loop.core.cancel(timer)
    shard.remove(self)
    isClosed = true
    self.connection = nil
  }

  // MARK: Messages

  /// Takes a message into the queue, if it is about what was asked for, and sends what can be sent.
  func offer(_ message: PubMessage, _ forms: PubForms, on loop: isolated EventLoop) {
    guard let connection else { return }
    switch feed.offer(message, { forms.entry(isExtended: isExtended) }) {
    case .queued:
      break
    case .dropped(let count):
      shard.noteDropped(count)
    case .disconnect:
      return disconnect(connection, on: loop)
    }
    send(on: loop)
  }

  private func disconnect(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    shard.remove(self)
    connection.close(.policyViolation, reason: "too slow", on: loop)
  }

  private func subscribe(_ opening: PubWire.Subscribe, on loop: isolated EventLoop) {
    loop.core.cancel(timer)
    isSubscribed = true
    shard.add(self)
    say(.init(epoch: shard.epoch, next: shard.ring.next), on: loop)
    let isKnown = opening.epoch == shard.epoch
    feed = SubscriberFeed(
      shard.emptyQueue, topics: opening.topics.map(Set.init), after: isKnown ? opening.after : nil)
    send(on: loop)
  }

  /// Sends while the connection takes it; the rest waits in the queue.
  private func send(on loop: isolated EventLoop) {
    guard let connection else { return }
    while !connection.isOutputFull, connection.isOpen {
      switch feed.next(from: shard.ring) {
      case .gap(let numbers):
        sayGap(numbers, on: loop)
      case .overrun(let numbers):
        if shard.configuration.slowSubscribers == .disconnect {
          return disconnect(connection, on: loop)
        }
        shard.noteDropped(numbers.count)
        sayGap(numbers, on: loop)
      case .replay(let message, let number):
        send(PubForms(message, number).entry(isExtended: isExtended), connection, on: loop)
      case .entry(let entry):
        send(entry, connection, on: loop)
      case nil:
        if isDraining { connection.close(.goingAway, on: loop) }
        return
      }
    }
  }

  private func send(
    _ entry: SubscriberQueue.Entry, _ connection: WebSocketConnection, on loop: isolated EventLoop
  ) {
    connection.send(entry.isText ? .text : .binary, entry.payload.span, on: loop)
  }

  /// Names what is missing; among the numbers may be others that the subscriber did not ask for.
  private func sayGap(_ numbers: ClosedRange<UInt64>, on loop: isolated EventLoop) {
    guard isExtended else { return }
    say(.init(gap: .init(from: numbers.lowerBound, to: numbers.upperBound)), on: loop)
  }

  private func say(_ control: PubWire.Control, on loop: isolated EventLoop) {
    connection?.send(.text, PubWire.control(control).span, on: loop)
  }
}
