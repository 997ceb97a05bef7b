internal import DequeModule
internal import GrenacheAccess
internal import GrenacheIO
internal import GrenacheTransport

/// The state of a subscriber, confined to its link's loop.
final class SubCore: KeyObserver {
  /// Publishers whose gaps are kept while there is no room.
  static let missedMax = 1_000

  let key: String
  let link: Link
  let configuration: PeerSubConfiguration
  private var events: Deque<SubscriptionEvent> = []
  private var eventBytes = 0
  /// What came while there was no room, by publisher: a gap behind what waits.
  private var missed: [Endpoint: ClosedRange<UInt64>?] = [:]
  private var reader: LoopPromise<Void>?
  private var publishers: [Endpoint: FollowedPublisher] = [:]
  private var announced: Set<Endpoint> = []
  /// Whether it has been told of announcers before: others hear of changes when it does.
  private var hasFound = false
  private var isStopped = false
  private var isFull = false
  /// Of the policy that says who may publish.
  private var observation: Int?

  init(_ key: String, link: Link, _ configuration: PeerSubConfiguration) {
    self.key = key
    self.link = link
    self.configuration = configuration
  }

  var connected: [Endpoint] { publishers.filter(\.value.isConnected).map(\.key) }

  // MARK: Following

  var lookupInterval: Duration { configuration.lookupInterval }

  func follow(on loop: isolated EventLoop) {
    guard !isStopped else { return }
    observeAccess(on: loop)
    link.core(on: loop).follow(key, self, on: loop)
  }

  /// A publisher that says nothing is left as well when it may not publish any more.
  private func observeAccess(on loop: isolated EventLoop) {
    guard let access = configuration.access, observation == nil else { return }
    let core = LoopBound(self, on: loop)
    observation = access.observe {
      Task { await core.loop.run { loop in core.get(on: loop).accessChanged(on: loop) } }
    }
  }

  private func accessChanged(on loop: isolated EventLoop) {
    for publisher in Array(publishers.values) { publisher.accessChanged(on: loop) }
  }

  /// Begins to follow who is new; who is not announced any more gives itself up once it is gone.
  func announcersChanged(_ announcers: [Endpoint], on loop: isolated EventLoop) {
    guard !isStopped else { return }
    announced = Set(announcers)
    followNew(on: loop)
    hasFound = true
  }

  private func followNew(on loop: isolated EventLoop) {
    for endpoint in announced where publishers[endpoint] == nil {
      guard publishers.count < configuration.publishersMax else { return }
      let publisher = FollowedPublisher(endpoint, core: self)
      publishers[endpoint] = publisher
      publisher.start(isNews: hasFound, on: loop)
    }
  }

  func isWatching(on loop: isolated EventLoop) -> Bool { link.core(on: loop).isWatching(key) }

  func isAnnounced(_ endpoint: Endpoint) -> Bool { announced.contains(endpoint) }

  /// A publisher is gone for good: there is room for another one.
  func remove(_ endpoint: Endpoint, on loop: isolated EventLoop) {
    publishers[endpoint] = nil
    if !isStopped { followNew(on: loop) }
  }

  func stop(on loop: isolated EventLoop) {
    isStopped = true
    if let observation { configuration.access?.endObservation(observation) }
    observation = nil
    link.core(on: loop).unfollow(key, self)
    for publisher in publishers.values { publisher.stop(on: loop) }
    publishers = [:]
    wake(on: loop)
  }

  // MARK: Events

  /// Takes an event; without room it becomes a part of a gap that is told when there is some.
  func add(_ event: SubscriptionEvent, on loop: isolated EventLoop) {
    guard !isFull else { return miss(event) }
    append(event)
    wake(on: loop)
    guard events.count >= configuration.bufferMax || eventBytes >= configuration.bufferBytesMax
    else { return }
    isFull = true
    for publisher in publishers.values { publisher.pause(on: loop) }
  }

  var hasRoom: Bool { !isFull }

  private func append(_ event: SubscriptionEvent) {
    events.append(event)
    eventBytes += event.byteCount
  }

  private func miss(_ event: SubscriptionEvent) {
    let (endpoint, numbers) = event.lost
    guard let known = missed[endpoint] else {
      // Of publishers that come and go meanwhile, the last ones are not told of.
      if missed.count < Self.missedMax { missed.updateValue(numbers, forKey: endpoint) }
      return
    }
    missed.updateValue(joined(known, numbers), forKey: endpoint)
  }

  func next(on loop: isolated EventLoop) async -> SubscriptionEvent? {
    while events.isEmpty {
      if isStopped { return nil }
      let promise = LoopPromise<Void>()
      reader = promise
      let far = MonotonicTime(nanoseconds: .max / 2)
      if case .cancelled = await promise.wait(until: far, on: loop) { return nil }
    }
    let event = events.removeFirst()
    eventBytes -= event.byteCount
    if isFull, events.count <= configuration.bufferMax / 2,
      eventBytes <= configuration.bufferBytesMax / 2
    {
      isFull = false
      for (endpoint, numbers) in missed { append(.gap(numbers, from: endpoint)) }
      missed = [:]
      for publisher in publishers.values { publisher.resume(on: loop) }
    }
    return event
  }

  private func wake(on loop: isolated EventLoop) {
    let reader = self.reader
    self.reader = nil
    reader?.fulfil((), on: loop)
  }
}

extension SubscriptionEvent {
  /// What it costs to keep it, about.
  fileprivate var byteCount: Int {
    guard case .message(let message, _) = self else { return 64 }
    let content =
      switch message.content {
      case .text(let text): text.utf8.count
      case .bytes(let bytes): bytes.count
      }
    return 64 + content + (message.topic?.utf8.count ?? 0)
  }

  /// What is missing without it, of whose messages.
  fileprivate var lost: (Endpoint, ClosedRange<UInt64>?) {
    switch self {
    case .message(let message, let from): (from, message.number.map { $0...$0 })
    case .gap(let numbers, let from): (from, numbers)
    }
  }
}

/// Both and what is between them; `nil` where one of them is not known.
private func joined(
  _ first: ClosedRange<UInt64>?, _ second: ClosedRange<UInt64>?
) -> ClosedRange<UInt64>? {
  guard let first, let second else { return nil }
  return min(first.lowerBound, second.lowerBound)...max(first.upperBound, second.upperBound)
}
