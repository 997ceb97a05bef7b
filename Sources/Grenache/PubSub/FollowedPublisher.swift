internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// One publisher as a subscriber knows it, confined to the subscriber's loop: connected at one of its
/// addresses, or waiting to connect again.
///
///     resting → connecting → connected ↺ (resting) → stopped
///                                └→ handed over: another one follows the same run at another address
final class FollowedPublisher: WebSocketHandler {
  /// Bytes that the name of a run may have.
  static let runBytesMax = 255

  /// Its connection may outlive everybody else's use of the subscriber: until `stop`, both hold each other.
  private let core: SubCore
  private var addresses: PublisherAddresses
  private var progress: PublisherProgress
  private var permission: PublishPermission
  private var pace = ReconnectPace()
  private var generator = FastGenerator()
  private var task: Task<Void, Never>?
  private var isStopped = false
  private var resting: LoopPromise<Void>?
  private var connection: WebSocketConnection?
  /// Of this connection, or the last one.
  private var session = PublisherSession()
  /// Kept until the connection has closed.
  private var closing: LoopPromise<WebSocketClosure>?

  /// - Parameter isRelieved: whether what is missing of the run that the place names is told by another one.
  init(_ endpoint: Endpoint, at place: PublisherPlace, isRelieved: Bool = false, core: SubCore) {
    self.core = core
    addresses = PublisherAddresses(endpoint)
    progress = PublisherProgress(place, isRelieved: isRelieved)
    permission = PublishPermission(core.configuration.access, key: core.key)
  }

  /// The address that is connected, or tried next.
  var endpoint: Endpoint { addresses.current }
  var endpoints: [Endpoint] { addresses.all }
  /// Where the subscriber is in what it says.
  var place: PublisherPlace { progress.place }
  /// Whether somebody else tells what is missing of the run before.
  var isRelieved: Bool { progress.isRelieved }
  /// Whether its connection counts: it has been opened, and has not closed.
  var isOpened: Bool { session.isOpened }
  var isConnected: Bool { connection?.isOpen == true }

  /// Begins to follow it, after a pause.
  func start(after pause: Duration, on loop: isolated EventLoop) {
    task = Task { await run(after: pause, on: loop) }
  }

  func stop(on loop: isolated EventLoop) {
    isStopped = true
    task?.cancel()
    connection?.close(.normal, on: loop)
  }

  func pause(on loop: isolated EventLoop) {
    guard let connection else { return }
    session.paused()
    connection.pauseReading(on: loop)
  }

  func resume(on loop: isolated EventLoop) {
    guard let connection else { return }
    session.resumed(at: loop.core.now)
    connection.resumeReading(on: loop)
  }

  // MARK: Addresses

  /// Whether it is connected and has said on this connection that it is a run of that publisher.
  func isFollowing(_ run: String, _ identity: PeerIdentity?) -> Bool {
    isConnected && session.hasHeard && place.isSamePublisher(as: run, identity)
  }

  func add(_ others: [Endpoint]) {
    addresses.add(others)
  }

  /// Forgets the addresses that `isGone`, while it needs no others.
  ///
  /// - Returns: those.
  func forgetAddresses(where isGone: (Endpoint) -> Bool) -> [Endpoint] {
    isConnected ? addresses.removeOthers(where: isGone) : []
  }

  /// Gives up its other addresses, while it needs none: whose they are now, each has to say.
  func takeOtherEndpoints() -> [Endpoint] {
    isConnected && session.hasHeard ? addresses.takeOthers() : []
  }

  // MARK: Connecting

  private func run(after pause: Duration, on loop: isolated EventLoop) async {
    await rest(for: pause, on: loop)
    while !isStopped {
      let isGood = await live(on: loop)
      guard !isStopped else { return }
      if session.isMoving { continue }
      if !isGood {
        if pace.isToGiveUp, !core.isAnnounced(endpoint) {
          guard leaveAddress(on: loop) else { return }
        } else {
          addresses.turnToNext()
        }
      }
      let settings = core.configuration
      await rest(
        for: pace.pause(
          from: settings.reconnectDelayMin, to: settings.reconnectDelayMax, using: &generator),
        on: loop)
    }
  }

  private func rest(for pause: Duration, on loop: isolated EventLoop) async {
    guard pause > .zero, !isStopped else { return }
    let resting = LoopPromise<Void>()
    self.resting = resting
    _ = await resting.wait(until: loop.core.now + pause, on: loop)
    self.resting = nil
  }

  /// Connects, and waits until that has ended.
  ///
  /// - Returns: whether it was worth connecting.
  private func live(on loop: isolated EventLoop) async -> Bool {
    let closing = LoopPromise<WebSocketClosure>()
    self.closing = closing
    connection = nil
    session = PublisherSession()
    let began = loop.core.now
    if let error = await connect(on: loop) {
      pace.connectFailed()
      if !isStopped { core.failed(endpoint, error, on: loop) }
      return false
    }
    let far = MonotonicTime(nanoseconds: .max / 2)
    let outcome = await closing.wait(until: far, on: loop)
    var isViolated = false
    if case .value(let closure) = outcome { isViolated = closure.violation != nil }
    let isGood = pace.connectionEnded(
      hasHeard: session.hasHeard, after: loop.core.now - began, isViolated: isViolated)
    if case .value(let closure) = outcome, !isStopped, session.isFailure(closure, isGood: isGood) {
      core.failed(
        endpoint, GrenacheError(following: endpoint, of: core.key, endedBy: closure), on: loop)
    }
    return isGood
  }

  /// Gives the address up, and the publisher with the last one.
  ///
  /// - Returns: whether there is another address.
  private func leaveAddress(on loop: isolated EventLoop) -> Bool {
    let left = endpoint
    if addresses.leaveCurrent() {
      core.leave(left, on: loop)
      return true
    }
    isStopped = true
    tell(progress.givenUp(), on: loop)
    core.giveUp(self, on: loop)
    return false
  }

  /// - Returns: what was in the way.
  private func connect(on loop: isolated EventLoop) async -> GrenacheError? {
    let settings = core.configuration
    let target = endpoint
    var stream = ByteStreamLimits()
    stream.receiveBufferBytes = settings.receiveBufferBytes
    // Nobody vouches for what a lookup has found: who answers it could name an address of their own.
    let address = settings.acceptsInsecurePublishersByAddress ? target.host : nil
    let verification = settings.verification ?? .service(core.key, orAddress: address)
    let admitted = permission.admit(verification)
    guard !permission.isLimited || core.link.context != nil else {
      return GrenacheError(.notPermitted, "without TLS nobody has the right to publish")
    }
    do throws(TransportError) {
      let made = try await WebSocketClient.connect(
        to: Destination(target, verification: admitted),
        context: core.link.context, limits: settings.webSocket,
        options: WebSocketOptions(subprotocols: PubWire.offeredSubprotocols), stream: stream,
        handler: self, by: loop.core.now + settings.connectTimeout, on: loop)
      if isStopped { made.close(.normal, on: loop) }
      if connection == nil, made.isOpen { opened(made, on: loop) }
      return nil
    } catch {
      return GrenacheError(following: target, of: core.key, error)
    }
  }

  // MARK: Who may publish

  /// The policy has changed: whether the publisher says something or not, it may have to go.
  func accessChanged(on loop: isolated EventLoop) {
    guard let connection, connection.isOpen else { return }
    _ = isAdmitted(connection, on: loop)
  }

  /// Whether the publisher may still publish, after a change of the policy, too; else it is left.
  private func isAdmitted(_ connection: WebSocketConnection, on loop: isolated EventLoop) -> Bool {
    if permission.stillAdmits(connection.identity) { return true }
    session.denied()
    connection.close(.policyViolation, reason: "not permitted", on: loop)
    return false
  }

  // MARK: From the WebSocket

  private func opened(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    self.connection = connection
    let isExtended = connection.subprotocol == PubWire.subprotocol
    session.opened(isExtended: isExtended)
    // It may have been admitted by a policy that has changed since.
    guard isAdmitted(connection, on: loop) else { return }
    core.connected(at: endpoints)
    tell(progress.opened(isExtended: isExtended), on: loop)
    if isExtended {
      let subscribe = PubWire.Subscribe(
        topics: core.configuration.topics, after: place.cursor.after, epoch: progress.run)
      connection.send(.text, PubWire.subscribe(subscribe).span, on: loop)
    }
    if !core.hasRoom { pause(on: loop) }
  }

  func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {
    if self.connection == nil, !isStopped, connection.isOpen { opened(connection, on: loop) }
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    guard !isStopped, connection.isOpen, isAdmitted(connection, on: loop) else { return }
    if self.connection == nil { opened(connection, on: loop) }
    guard session.isExtended else {
      noteHeard()
      let message = kind == .text ? PubMessage(payload.string()) : PubMessage(bytes: payload.copy())
      return core.add(.message(message, from: endpoint), on: loop)
    }
    if kind == .text, payload.count > 0, payload[0] == 0x7b {
      guard let control = PubWire.control(from: payload.copy()) else { return }
      return heard(control, on: loop)
    }
    guard session.hasHeard, var message = PubWire.message(kind, payload),
      let number = message.number
    else { return }
    let (isNew, missing) = progress.received(number)
    tell(missing, on: loop)
    guard isNew else { return }
    message.run = progress.run
    core.add(.message(message, from: endpoint), on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    if self.connection === connection { self.connection = nil }
    let end = session.closed(closure, at: loop.core.now)
    if case .numbered = end, closure.isOfUntakenMessage, !isStopped {
      tell(progress.passedOver(), on: loop)
    }
    progress.closed(end)
    closing?.fulfil(closure, on: loop)
  }

  private func noteHeard() {
    if session.heard() { core.heard(endpoint) }
  }

  private func heard(_ control: PubWire.Control, on loop: isolated EventLoop) {
    if let gap = control.gap, gap.from <= gap.to, session.hasHeard {
      tell(progress.lost(gap.from...gap.to), on: loop)
    }
    guard let run = control.epoch else { return }
    guard run.utf8.count <= Self.runBytesMax else {
      connection?.close(.policyViolation, reason: "too long a name of the run", on: loop)
      return
    }
    begin(run, next: control.next ?? 1, on: loop)
  }

  private func tell(_ missing: PublisherProgress.Missing?, on loop: isolated EventLoop) {
    guard let missing else { return }
    core.add(.gap(missing.numbers, run: missing.run, from: endpoint), on: loop)
  }

  // MARK: Runs

  /// The publisher has said which run this is, and which number comes next.
  private func begin(_ run: String, next: UInt64, on loop: isolated EventLoop) {
    let identity = connection?.identity
    if let other = core.follower(of: run, identity, besides: self) {
      return handOver(to: other, run, on: loop)
    }
    noteHeard()
    if isRelieved || progress.run != run,
      let known = core.takePlace(in: run, identity, for: self, on: loop)
    {
      tell(progress.move(to: known), on: loop)
      // What was said meanwhile has not been asked for.
      if progress.isBehind(next, of: run) {
        session.moves()
        connection?.close(.normal, on: loop)
        return
      }
    }
    let before = place
    let isSame = before.isSamePublisher(as: run, identity)
    for missing in progress.begin(run, next: next, by: identity, isSame: isSame) {
      tell(missing, on: loop)
    }
    // The addresses were those of the run before: whether they are this one's, each has to say.
    if before.cursor.epoch != nil, !isSame {
      core.release(addresses.others, at: before, on: loop)
      _ = addresses.takeOthers()
    }
  }

  /// This is another address of a publisher that is followed already.
  private func handOver(to other: FollowedPublisher, _ run: String, on loop: isolated EventLoop) {
    // The other one knows of no run before.
    let isSame = place.isSamePublisher(as: run, connection?.identity)
    for missing in progress.enter(run, next: other.place.firstNumber, isSame: isSame) {
      tell(missing, on: loop)
    }
    core.merge(self, into: other)
    stop(on: loop)
  }
}
