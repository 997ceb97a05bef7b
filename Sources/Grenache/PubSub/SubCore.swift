internal import DequeModule
internal import GrenacheIO
internal import GrenacheTransport

/// The state of a subscriber, confined to its link's loop.
final class SubCore: KeyObserver {
  let key: String
  let link: Link
  let configuration: PeerSubConfiguration
  private var events: Deque<SubscriptionEvent> = []
  private var reader: LoopPromise<Void>?
  private var publishers: [Endpoint: FollowedPublisher] = [:]
  private var announced: Set<Endpoint> = []
  private var isStopped = false
  private var isFull = false

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
    link.core(on: loop).follow(key, self, on: loop)
  }

  /// Begins to follow who is new; who is not announced any more gives itself up once it is gone.
  func announcersChanged(_ announcers: [Endpoint], on loop: isolated EventLoop) {
    guard !isStopped else { return }
    announced = Set(announcers)
    followNew(on: loop)
  }

  private func followNew(on loop: isolated EventLoop) {
    for endpoint in announced where publishers[endpoint] == nil {
      guard publishers.count < configuration.publishersMax else { return }
      let publisher = FollowedPublisher(endpoint, core: self)
      publishers[endpoint] = publisher
      publisher.start(on: loop)
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
    link.core(on: loop).unfollow(key, self)
    for publisher in publishers.values { publisher.stop(on: loop) }
    publishers = [:]
    wake(on: loop)
  }

  // MARK: Events

  /// - Returns: whether there is room for more.
  func add(_ event: SubscriptionEvent, on loop: isolated EventLoop) -> Bool {
    events.append(event)
    wake(on: loop)
    if events.count >= configuration.bufferMax { isFull = true }
    return !isFull
  }

  var hasRoom: Bool { !isFull }

  func next(on loop: isolated EventLoop) async -> SubscriptionEvent? {
    while events.isEmpty {
      if isStopped { return nil }
      let promise = LoopPromise<Void>()
      reader = promise
      let far = MonotonicTime(nanoseconds: .max / 2)
      if case .cancelled = await promise.wait(until: far, on: loop) { return nil }
    }
    let event = events.removeFirst()
    if isFull, events.count <= configuration.bufferMax / 2 {
      isFull = false
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
