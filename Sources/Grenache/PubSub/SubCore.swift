internal import DequeModule
internal import GrenacheAccess
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport
internal import Logging

/// The state of a subscriber, confined to its link's loop.
final class SubCore: KeyObserver, LoopTimerTarget {
  let key: String
  let link: Link
  let configuration: PeerSubConfiguration
  private var buffer: SubscriptionBuffer
  private var readers: Deque<LoopPromise<Void>> = []
  /// By address; several addresses may be those of one publisher.
  private var publishers: [Endpoint: FollowedPublisher] = [:]
  private var absent: AbsentPublishers
  private var announced: Set<Endpoint> = []
  /// Whether it has been told who announces the key: whoever comes later is told to all others, too.
  private var hasBeenTold = false
  /// Whether it has been said that some are left out.
  private var isCrowded = false
  /// How many run it at present.
  private var runs = 0
  private var isStopped = false
  /// Of the policy that says who may publish.
  private var observation: Int?
  private var generator = FastGenerator()
  private var failures: [Endpoint?: GrenacheError] = [:]
  private var toldFailures: RecurringFailures<Endpoint?>
  private lazy var aliasTimer = TargetTimer(self)

  init(_ key: String, link: Link, _ configuration: PeerSubConfiguration) {
    self.key = key
    self.link = link
    self.configuration = configuration
    buffer = SubscriptionBuffer(
      eventsMax: configuration.bufferEventsMax, bytesMax: configuration.bufferBytesMax)
    absent = AbsentPublishers(countMax: configuration.absentPublishersMax)
    toldFailures = RecurringFailures(sourcesMax: configuration.publishersMax + 100)
  }

  var connected: [Endpoint] {
    publishers.filter { $0.value.isConnected && $0.value.endpoint == $0.key }.map(\.key)
  }

  /// What is in the way at present.
  var currentFailures: [SubscriptionFailure] {
    failures.map { SubscriptionFailure(publisher: $0.key, error: $0.value) }
  }

  // MARK: Following

  var lookupInterval: Duration { configuration.lookupInterval }

  func follow(on loop: isolated EventLoop) {
    runs += 1
    guard runs == 1 else { return }
    isStopped = false
    hasBeenTold = false
    observeAccess(on: loop)
    link.core(on: loop).beginReloading(link.certificateReloader)
    link.core(on: loop).follow(key, self, on: loop)
    loop.core.arm(aliasTimer, after: configuration.aliasAgeMax)
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
    for publisher in Array(publishers.values) {
      for gone in publisher.forgetAddresses(where: { !announced.contains($0) }) { forget(gone) }
    }
    followNew(on: loop)
    hasBeenTold = true
  }

  private func followNew(on loop: isolated EventLoop) {
    for endpoint in announced where publishers[endpoint] == nil {
      guard publishers.count < configuration.publishersMax else { return noteCrowd() }
      let publisher = FollowedPublisher(
        endpoint,
        at: absent.take(endpoint) ?? PublisherPlace(hasTopics: configuration.topics != nil),
        core: self)
      publishers[endpoint] = publisher
      // All subscribers hear of a new publisher at the same moment.
      let most = hasBeenTold ? configuration.firstConnectDelayMax : .zero
      publisher.start(after: most * Double.random(in: 0...1, using: &generator), on: loop)
    }
  }

  private func noteCrowd() {
    guard !isCrowded else { return }
    isCrowded = true
    let most = configuration.publishersMax
    let error = GrenacheError(
      .limitReached, "\(key) has more publishers than the \(most) that are followed")
    log("not all publishers are followed", error, of: nil)
    configuration.failed?(SubscriptionFailure(publisher: nil, error: error))
  }

  func isWatching(on loop: isolated EventLoop) -> Bool { link.core(on: loop).isWatching(key) }

  func isAnnounced(_ endpoint: Endpoint) -> Bool { announced.contains(endpoint) }

  func stop(on loop: isolated EventLoop) {
    runs = max(0, runs - 1)
    guard runs == 0, !isStopped else { return }
    isStopped = true
    if let observation { configuration.access?.endObservation(observation) }
    observation = nil
    loop.core.cancel(aliasTimer)
    link.core(on: loop).unfollow(key, self)
    link.core(on: loop).endReloading()
    for publisher in publishers.values {
      var place = publisher.place
      // Of one that numbers nothing everything is missing from now on.
      if publisher.isConnected, place.cursor.epoch == nil { place.mayMiss = true }
      if publisher.isOpened { place.cursor.closed(inOrder: false) }
      if !publisher.isRelieved { absent.keep(place, of: publisher.endpoint) }
      publisher.stop(on: loop)
    }
    publishers = [:]
    announced = []
    failures = [:]
    while !readers.isEmpty { wake(on: loop) }
  }

  // MARK: Publishers and their addresses

  /// Who follows that publisher at another address.
  func follower(
    of run: String, _ identity: PeerIdentity?, besides publisher: FollowedPublisher
  ) -> FollowedPublisher? {
    publishers.values.first { $0 !== publisher && $0.isFollowing(run, identity) }
  }

  /// The addresses of one are those of the other.
  func merge(_ publisher: FollowedPublisher, into other: FollowedPublisher) {
    other.add(publisher.endpoints)
    for endpoint in publisher.endpoints {
      publishers[endpoint] = other
      // Whether it can be reached there is no matter while it is followed elsewhere.
      failures[endpoint] = nil
      heard(endpoint)
    }
  }

  /// The place in a run of somebody who is at another address now: given up, or not reached there. The
  /// address of one who is not reached becomes another one of `publisher`.
  func takePlace(
    in run: String, _ identity: PeerIdentity?, for publisher: FollowedPublisher,
    on loop: isolated EventLoop
  ) -> PublisherPlace? {
    // The place of one that was released is older than that of the one whose address it was.
    let lost = publishers.values.first {
      $0 !== publisher && !$0.isRelieved && $0.place.isSamePublisher(as: run, identity)
    }
    guard let lost else { return absent.take(run: run, identity) }
    merge(lost, into: publisher)
    lost.stop(on: loop)
    return lost.place
  }

  /// What was the addresses of one publisher may be those of others now.
  func release(
    _ endpoints: [Endpoint], at place: PublisherPlace, on loop: isolated EventLoop
  ) {
    for endpoint in endpoints {
      let publisher = FollowedPublisher(endpoint, at: place, isRelieved: true, core: self)
      publishers[endpoint] = publisher
      publisher.start(after: .zero, on: loop)
    }
  }

  /// Somebody else may have taken what was another address of a publisher: each is asked again.
  func timerFired(_ timer: LoopTimer, on loop: isolated EventLoop) {
    for publisher in Array(publishers.values) {
      release(publisher.takeOtherEndpoints(), at: publisher.place, on: loop)
    }
    loop.core.arm(aliasTimer, after: configuration.aliasAgeMax)
  }

  /// An address leads nowhere; there is room for another one.
  func leave(_ endpoint: Endpoint, on loop: isolated EventLoop) {
    forget(endpoint)
    if !isStopped { followNew(on: loop) }
  }

  private func forget(_ endpoint: Endpoint) {
    publishers[endpoint] = nil
    heard(endpoint)
    failures[endpoint] = nil
  }

  /// A publisher is gone; there is room for another one.
  func giveUp(_ publisher: FollowedPublisher, on loop: isolated EventLoop) {
    if !publisher.isRelieved { absent.keep(publisher.place, of: publisher.endpoint) }
    leave(publisher.endpoint, on: loop)
  }

  // MARK: Failures

  func lookupFailed(_ error: GrenacheError?, on loop: isolated EventLoop) {
    guard let error else {
      failures.removeValue(forKey: nil)
      toldFailures.ended(nil)
      return
    }
    failures.updateValue(error, forKey: nil)
    // The link has logged it.
    guard toldFailures.isNew(error.kind, of: nil, at: loop.core.now) else { return }
    configuration.failed?(SubscriptionFailure(publisher: nil, error: error))
  }

  func failed(_ endpoint: Endpoint, _ error: GrenacheError, on loop: isolated EventLoop) {
    failures.updateValue(error, forKey: endpoint)
    guard toldFailures.isNew(error.kind, of: endpoint, at: loop.core.now) else { return }
    log("a publisher cannot be followed", error, of: endpoint)
    configuration.failed?(SubscriptionFailure(publisher: endpoint, error: error))
  }

  private func log(_ what: Logger.Message, _ error: GrenacheError, of endpoint: Endpoint?) {
    link.logger.warning(
      what,
      metadata: [
        "key": "\(key.quotedForLog())", "publisher": "\(endpoint?.description ?? "some")",
        "error": "\(error)", "code": "\(error.code)",
      ])
  }

  func connected(at endpoints: [Endpoint]) {
    for endpoint in endpoints { failures[endpoint] = nil }
  }

  /// It is followed: the next failure is a new one.
  func heard(_ endpoint: Endpoint) { toldFailures.ended(endpoint) }

  // MARK: Events

  /// Takes an event; without room it becomes a part of a gap that is told when there is some.
  func add(_ event: SubscriptionEvent, on loop: isolated EventLoop) {
    let wasFull = buffer.isFull
    buffer.add(event)
    guard !wasFull else { return }
    wake(on: loop)
    guard buffer.isFull else { return }
    for publisher in publishers.values { publisher.pause(on: loop) }
  }

  var hasRoom: Bool { !buffer.isFull }

  func next(on loop: isolated EventLoop) async -> SubscriptionEvent? {
    while buffer.isEmpty {
      if isStopped { return nil }
      let promise = LoopPromise<Void>()
      readers.append(promise)
      let far = MonotonicTime(nanoseconds: .max / 2)
      guard case .value = await promise.wait(until: far, on: loop) else {
        readers.removeAll { $0 === promise }
        // An event that this one was to take is another one's.
        if !buffer.isEmpty { wake(on: loop) }
        return nil
      }
    }
    let wasFull = buffer.isFull
    let event = buffer.popFirst()
    if wasFull, !buffer.isFull {
      for publisher in publishers.values { publisher.resume(on: loop) }
    }
    if !buffer.isEmpty { wake(on: loop) }
    return event
  }

  private func wake(on loop: isolated EventLoop) {
    while let reader = readers.popFirst() {
      guard !reader.isOver else { continue }
      return reader.fulfil((), on: loop)
    }
  }
}
