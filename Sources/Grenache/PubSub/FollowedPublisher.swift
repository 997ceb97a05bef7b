internal import GrenacheAccess
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

  /// The address that is connected, or tried next.
  private(set) var endpoint: Endpoint
  /// Its other ones, as far as they are known, in the order in which they are tried then.
  private(set) var otherEndpoints: [Endpoint] = []
  /// Where the subscriber is in what it says.
  private(set) var place: PublisherPlace
  /// Its connection may outlive everybody else's use of the subscriber: until `stop`, both hold each other.
  private let core: SubCore
  private var connection: WebSocketConnection?
  private var task: Task<Void, Never>?
  private var isStopped = false
  private var isExtended = false
  /// Whether this connection counts: it has been opened, and has not closed.
  private(set) var isOpened = false
  /// Of this connection.
  private var delay = ReadingDelay()
  /// Whether the publisher has said anything on this connection.
  private var hasHeard = false
  /// Whether the connection was given up for another one, that asks for what it has missed.
  private var isMoving = false
  /// Whether it was left since it may not publish any more.
  private var isDenied = false
  /// Whether somebody else tells what is missing of the run before.
  private(set) var isRelieved = false
  /// Kept until the connection has closed.
  private var closing: LoopPromise<WebSocketClosure>?
  private var resting: LoopPromise<Void>?
  private var pace = ReconnectPace()
  private var generator = FastGenerator()
  /// The version of the policy that the connection has been admitted by.
  private var accessVersion = 0
  /// Who may publish, if that is limited: one for all connections, or none could resume a session.
  private let permission: PeerVerification?

  /// - Parameter isRelieved: whether what is missing of the run that the place names is told by another one.
  init(_ endpoint: Endpoint, at place: PublisherPlace, isRelieved: Bool = false, core: SubCore) {
    self.endpoint = endpoint
    self.place = place
    self.isRelieved = isRelieved
    self.core = core
    let key = core.key
    permission = core.configuration.access.map { access in
      .custom("one who may publish \(key)") { peer in
        access.decide(.publish, on: key, by: peer).isAllowed
      }
    }
  }

  var isConnected: Bool { connection?.isOpen == true }

  var endpoints: [Endpoint] { [endpoint] + otherEndpoints }

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
    delay.paused()
    connection.pauseReading(on: loop)
  }

  func resume(on loop: isolated EventLoop) {
    guard let connection else { return }
    delay.resumed(at: loop.core.now)
    connection.resumeReading(on: loop)
  }

  // MARK: Addresses

  /// Whether it is connected and has said on this connection that it is a run of that publisher.
  func isFollowing(_ run: String, _ identity: PeerIdentity?) -> Bool {
    isConnected && hasHeard && place.isSamePublisher(as: run, identity)
  }

  func add(_ others: [Endpoint]) {
    otherEndpoints += others.filter { !endpoints.contains($0) }
  }

  /// Forgets the addresses that `isGone`, while it needs no others.
  ///
  /// - Returns: those.
  func forgetAddresses(where isGone: (Endpoint) -> Bool) -> [Endpoint] {
    guard isConnected else { return [] }
    defer { otherEndpoints.removeAll(where: isGone) }
    return otherEndpoints.filter(isGone)
  }

  /// Gives up its other addresses, while it needs none: whose they are now, each has to say.
  func takeOtherEndpoints() -> [Endpoint] {
    guard isConnected, hasHeard else { return [] }
    defer { otherEndpoints = [] }
    return otherEndpoints
  }

  /// - Returns: whether there was another address.
  private func turnToNextAddress() -> Bool {
    guard !otherEndpoints.isEmpty else { return false }
    otherEndpoints.append(endpoint)
    endpoint = otherEndpoints.removeFirst()
    return true
  }

  // MARK: Connecting

  private func run(after pause: Duration, on loop: isolated EventLoop) async {
    await rest(for: pause, on: loop)
    while !isStopped {
      let isGood = await live(on: loop)
      guard !isStopped else { return }
      if isMoving { continue }
      if !isGood {
        if pace.isToGiveUp, !core.isAnnounced(endpoint) {
          guard leaveAddress(on: loop) else { return }
        } else {
          _ = turnToNextAddress()
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
    isOpened = false
    delay = ReadingDelay()
    hasHeard = false
    isMoving = false
    isDenied = false
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
      hasHeard: hasHeard, after: loop.core.now - began, isViolated: isViolated)
    if case .value(let closure) = outcome, !isStopped, !isMoving, !isDenied,
      !isGood || closure.code == .policyViolation || closure.error?.tls != nil
    {
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
    if turnToNextAddress() {
      otherEndpoints.removeLast()
      core.leave(left, on: loop)
      return true
    }
    isStopped = true
    // What it said at last, nobody will ever say, unless somebody has already.
    if !isRelieved, place.mayMiss || !place.cursor.isComplete {
      add(.gap(nil, run: place.cursor.epoch, from: endpoint), on: loop)
      place.isEndTold = true
    }
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
    let verification = settings.verification ?? .service(core.key, address: address)
    accessVersion = settings.access?.version ?? 0
    guard settings.access == nil || core.link.context != nil else {
      return GrenacheError(.notPermitted, "without TLS nobody has the right to publish")
    }
    do throws(TransportError) {
      let made = try await WebSocketClient.connect(
        to: Destination(target, verification: admission(verification)),
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

  /// Who may be there and may publish: whoever may not gets no byte.
  private func admission(_ verification: PeerVerification) -> PeerVerification {
    permission.map { .all([verification, $0]) } ?? verification
  }

  /// The policy has changed: whether the publisher says something or not, it may have to go.
  func accessChanged(on loop: isolated EventLoop) {
    guard let connection, connection.isOpen else { return }
    _ = isAdmitted(connection, on: loop)
  }

  /// Whether the publisher may still publish, after a change of the policy, too; else it is left.
  private func isAdmitted(_ connection: WebSocketConnection, on loop: isolated EventLoop) -> Bool {
    guard let access = core.configuration.access, access.version != accessVersion else {
      return true
    }
    accessVersion = access.version
    if access.decide(.publish, on: core.key, by: connection.identity).isAllowed { return true }
    // What is in the way is told when it is connected to again.
    isDenied = true
    connection.close(.policyViolation, reason: "not permitted", on: loop)
    return false
  }

  // MARK: From the WebSocket

  private func opened(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    self.connection = connection
    isOpened = true
    // It may have been admitted by a policy that has changed since.
    guard isAdmitted(connection, on: loop) else { return }
    isExtended = connection.subprotocol == PubWire.subprotocol
    core.connected(at: endpoints)
    if place.mayMiss || (!isExtended && place.cursor.epoch != nil) {
      // What was missed meanwhile, nobody knows.
      add(.gap(nil, run: place.cursor.epoch, from: endpoint), on: loop)
      place = PublisherPlace(hasTopics: core.configuration.topics != nil)
    }
    if isExtended {
      let subscribe = PubWire.Subscribe(
        topics: core.configuration.topics, after: place.cursor.after, epoch: place.cursor.epoch)
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
    guard isExtended else {
      noteHeard()
      let message = kind == .text ? PubMessage(payload.string()) : PubMessage(bytes: payload.copy())
      return add(.message(message, from: endpoint), on: loop)
    }
    if kind == .text, payload.count > 0, payload[0] == 0x7b {
      guard let control = PubWire.control(from: payload.copy()) else { return }
      return heard(control, on: loop)
    }
    guard hasHeard, var message = PubWire.message(kind, payload), let number = message.number
    else { return }
    let (isNew, gap) = place.cursor.received(number)
    tell(gap, of: place.cursor.epoch, on: loop)
    guard isNew else { return }
    message.run = place.cursor.epoch
    add(.message(message, from: endpoint), on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    if self.connection === connection { self.connection = nil }
    if isOpened {
      isOpened = false
      if isExtended {
        passOver(closure, on: loop)
        // With 1001 a publisher goes away that has said everything (`docs/wire-extensions.md`). Read late
        // it says nothing of who may have come and gone since.
        let isInOrder = closure.code == .goingAway && closure.error == nil
        place.cursor.closed(inOrder: isInOrder && !delay.isLate(at: loop.core.now))
      } else {
        place.mayMiss = true
      }
    }
    closing?.fulfil(closure, on: loop)
  }

  /// Of a message that this side does not take the publisher would never say what comes behind it.
  private func passOver(_ closure: WebSocketClosure, on loop: isolated EventLoop) {
    guard closure.violation == .messageTooBig || closure.violation == .invalidPayload, !isStopped
    else { return }
    tell(place.cursor.passedOver(), of: place.cursor.epoch, on: loop)
  }

  private func noteHeard() {
    guard !hasHeard else { return }
    hasHeard = true
    core.heard(endpoint)
  }

  private func heard(_ control: PubWire.Control, on loop: isolated EventLoop) {
    if let gap = control.gap, gap.from <= gap.to, hasHeard {
      tell(place.cursor.lost(gap.from...gap.to), of: place.cursor.epoch, on: loop)
    }
    guard let run = control.epoch else { return }
    guard run.utf8.count <= Self.runBytesMax else {
      connection?.close(.policyViolation, reason: "too long a name of the run", on: loop)
      return
    }
    begin(run, next: control.next ?? 1, on: loop)
  }

  private func add(_ event: SubscriptionEvent, on loop: isolated EventLoop) {
    core.add(event, on: loop)
  }

  private func tell(
    _ gap: PublisherCursor.Gap?, of run: String?, on loop: isolated EventLoop
  ) {
    switch gap {
    case .numbers(let numbers): add(.gap(numbers, run: run, from: endpoint), on: loop)
    case .unknown: add(.gap(nil, run: run, from: endpoint), on: loop)
    case nil: break
    }
  }

  // MARK: Runs

  /// The publisher has said which run this is, and which number comes next.
  private func begin(_ run: String, next: UInt64, on loop: isolated EventLoop) {
    let identity = connection?.identity
    if let other = core.follower(of: run, identity, besides: self) {
      return handOver(to: other, run, on: loop)
    }
    noteHeard()
    if place.cursor.epoch != run, let known = core.takePlace(in: run, identity, for: self, on: loop)
    {
      if !place.cursor.isComplete, !place.isEndTold {
        tell(.unknown, of: place.cursor.epoch, on: loop)
      }
      place = known
      isRelieved = false
      // What was said meanwhile has not been asked for.
      if place.cursor.epoch == run, let last = place.cursor.after, next - min(next, 1) > last {
        isMoving = true
        connection?.close(.normal, on: loop)
        return
      }
    }
    let before = place
    let isSame = before.isSamePublisher(as: run, identity)
    place.identity = identity
    open(run, next: next, isSame: isSame, on: loop)
    isRelieved = false
    // The addresses were those of the run before: whether they are this one's, each has to say.
    if before.cursor.epoch != nil, !isSame {
      core.release(otherEndpoints, at: before, on: loop)
      otherEndpoints = []
    }
  }

  /// Moves on to a run, and tells what is missing before what comes of it.
  ///
  /// - Parameter isSame: whether it is the same publisher, at another one of its places perhaps.
  private func open(
    _ run: String, next: UInt64, isSame: Bool, on loop: isolated EventLoop
  ) {
    let before = place.cursor.epoch
    let gap = place.cursor.opened(epoch: run, next: next)
    if before == nil { place.firstNumber = max(next, 1) }
    guard before != nil, before != run else {
      place.isEndTold = false
      return
    }
    place.firstNumber = isSame ? max(next, 1) : 1
    defer { place.isEndTold = false }
    guard !isRelieved else { return }
    if isSame {
      // Its messages are the same at each of its places: some of these have come.
      if !place.isEndTold { tell(.unknown, of: before, on: loop) }
      return
    }
    guard gap == .unknown else { return tell(gap, of: run, on: loop) }
    if !place.isEndTold { tell(.unknown, of: before, on: loop) }
    if next > 1 { tell(.numbers(1...next - 1), of: run, on: loop) }
  }

  /// This is another address of a publisher that is followed already.
  private func handOver(to other: FollowedPublisher, _ run: String, on loop: isolated EventLoop) {
    // The other one knows of no run before.
    let isSame = place.isSamePublisher(as: run, connection?.identity)
    open(run, next: other.place.firstNumber, isSame: isSame, on: loop)
    core.merge(self, into: other)
    stop(on: loop)
  }
}
