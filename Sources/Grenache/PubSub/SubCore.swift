internal import DequeModule
internal import GrenacheIO
internal import GrenacheTransport

/// The state of a subscriber, confined to its link's loop.
final class SubCore {
  let key: String
  let link: Link
  let configuration: PeerSubConfiguration
  private var events: Deque<SubscriptionEvent> = []
  private var reader: LoopPromise<Void>?
  private var publishers: [Endpoint: FollowedPublisher] = [:]
  private var isStopped = false
  private var isFull = false

  init(_ key: String, link: Link, _ configuration: PeerSubConfiguration) {
    self.key = key
    self.link = link
    self.configuration = configuration
  }

  var connected: [Endpoint] { publishers.filter(\.value.isConnected).map(\.key) }

  // MARK: Following

  /// Looks for publishers again and again until the task is cancelled.
  func follow(on loop: isolated EventLoop) async {
    while !Task.isCancelled, !isStopped {
      // Who has come is to be heard soon, not when what is known is old.
      let core = link.core(on: loop)
      core.forget(key)
      if let found = try? await core.lookup(key, by: .now() + .seconds(10), on: loop) {
        update(found, on: loop)
      }
      let pause = configuration.lookupInterval * Double.random(in: 0.75...1.25)
      try? await Task.sleep(for: pause)
    }
  }

  /// Begins to follow who is new; who is not found any more is given up once it is not connected.
  private func update(_ found: [Endpoint], on loop: isolated EventLoop) {
    guard !isStopped else { return }
    for (endpoint, publisher) in publishers where !found.contains(endpoint) {
      if publisher.isConnected { continue }
      publisher.stop(on: loop)
      publishers[endpoint] = nil
    }
    for endpoint in found where publishers[endpoint] == nil {
      guard publishers.count < configuration.publishersMax else { return }
      let publisher = FollowedPublisher(endpoint, core: self)
      publishers[endpoint] = publisher
      publisher.start(on: loop)
    }
  }

  func stop(on loop: isolated EventLoop) {
    isStopped = true
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
