internal import GrenacheAccess
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// One publisher as a subscriber knows it, confined to the subscriber's loop: connected, or waiting to
/// connect again.
final class FollowedPublisher: WebSocketHandler {
  private let endpoint: Endpoint
  /// Its connection may outlive everybody else's use of the subscriber: until `stop`, both hold each other.
  private let core: SubCore
  private var connection: WebSocketConnection?
  private var task: Task<Void, Never>?
  private var isStopped = false
  private var isExtended = false
  /// Kept until the connection has closed.
  private var closing: LoopPromise<Void>?
  private var cursor: PublisherCursor
  /// Whether what was said meanwhile is missing and nobody can say what it was.
  private var mayMiss = false
  /// The version of the policy that the connection has been admitted by.
  private var accessVersion = 0

  init(_ endpoint: Endpoint, core: SubCore) {
    self.endpoint = endpoint
    self.core = core
    cursor = PublisherCursor(hasTopics: core.configuration.topics != nil)
  }

  var isConnected: Bool { connection?.isOpen == true }

  /// - Parameter isNews: whether it has been announced just now.
  func start(isNews: Bool, on loop: isolated EventLoop) {
    task = Task { await run(isNews: isNews, on: loop) }
  }

  func stop(on loop: isolated EventLoop) {
    isStopped = true
    task?.cancel()
    connection?.close(.normal, on: loop)
  }

  func pause(on loop: isolated EventLoop) {
    connection?.pauseReading(on: loop)
  }

  func resume(on loop: isolated EventLoop) {
    connection?.resumeReading(on: loop)
  }

  private func run(isNews: Bool, on loop: isolated EventLoop) async {
    var generator = FastGenerator()
    var schedule = ReconnectSchedule(
      delayMin: core.configuration.reconnectDelayMin,
      delayMax: core.configuration.reconnectDelayMax)
    if isNews {
      try? await Task.sleep(for: schedule.found(isNews: isNews, using: &generator))
    }
    while !isStopped {
      let closing = LoopPromise<Void>()
      self.closing = closing
      connection = nil
      let pause: Duration
      if await connect(on: loop) {
        let start = MonotonicTime.now()
        _ = await closing.wait(until: MonotonicTime(nanoseconds: .max / 2), on: loop)
        pause = schedule.lost(after: .now() - start, using: &generator)
      } else {
        let isAnnounced = core.isAnnounced(endpoint)
        guard let next = schedule.failed(isAnnounced: isAnnounced, using: &generator) else {
          return giveUp(on: loop)
        }
        pause = next
      }
      guard !isStopped else { return }
      try? await Task.sleep(for: pause)
    }
  }

  private func giveUp(on loop: isolated EventLoop) {
    isStopped = true
    core.remove(endpoint, on: loop)
    // What it said at last, nobody will ever say.
    if mayMiss || !cursor.isComplete { add(.gap(nil, from: endpoint), on: loop) }
  }

  private func connect(on loop: isolated EventLoop) async -> Bool {
    let settings = core.configuration
    // Nobody vouches for what a lookup has found: who answers it could name an address of their own.
    let address = settings.acceptsPublishersByAddress ? endpoint.host : nil
    let verification = settings.verification ?? .service(core.key, address: address)
    accessVersion = settings.access?.version ?? 0
    guard settings.access == nil || core.link.context != nil,
      let made = try? await WebSocketClient.connect(
        to: Destination(endpoint, verification: admission(verification)),
        context: core.link.context,
        limits: settings.webSocket,
        options: WebSocketOptions(subprotocols: PubWire.offeredSubprotocols), handler: self,
        by: loop.core.now + settings.connectTimeout, on: loop)
    else { return false }
    guard !isStopped else {
      made.close(.normal, on: loop)
      return false
    }
    if connection == nil { opened(made, on: loop) }
    return true
  }

  /// Who may be there and may publish: whoever may not gets no byte.
  private func admission(_ verification: PeerVerification) -> PeerVerification {
    guard let access = core.configuration.access else { return verification }
    let key = core.key
    return .all([
      verification,
      .custom("one who may publish \(key)") { peer in
        access.decide(.publish, on: key, by: peer).isAllowed
      },
    ])
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
    connection.close(.policyViolation, reason: "not permitted", on: loop)
    return false
  }

  private func opened(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    self.connection = connection
    // It may have been admitted by a policy that has changed since.
    guard isAdmitted(connection, on: loop) else { return }
    isExtended = connection.subprotocol == PubWire.subprotocol
    if isExtended {
      let subscribe = PubWire.Subscribe(
        topics: core.configuration.topics, after: cursor.after, epoch: cursor.epoch)
      connection.send(.text, PubWire.subscribe(subscribe).span, on: loop)
    } else if mayMiss {
      // What was missed meanwhile, nobody knows.
      mayMiss = false
      add(.gap(nil, from: endpoint), on: loop)
    }
    if !core.hasRoom { connection.pauseReading(on: loop) }
  }

  // MARK: From the WebSocket

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
      let message = kind == .text ? PubMessage(payload.string()) : PubMessage(bytes: payload.copy())
      return add(.message(message, from: endpoint), on: loop)
    }
    if kind == .text, payload.count > 0, payload[0] == 0x7b {
      guard let control = PubWire.control(from: payload.copy()) else { return }
      return heard(control, on: loop)
    }
    guard let message = PubWire.message(kind, payload), let number = message.number else { return }
    let (isNew, gap) = cursor.received(number)
    note(gap, on: loop)
    if isNew { add(.message(message, from: endpoint), on: loop) }
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    if self.connection === connection { self.connection = nil }
    if isExtended {
      // With 1001 a publisher goes away that has said everything (`docs/wire-extensions.md`).
      cursor.closed(inOrder: closure.code == .goingAway && closure.error == nil)
    } else {
      mayMiss = true
    }
    closing?.fulfil((), on: loop)
  }

  private func heard(_ control: PubWire.Control, on loop: isolated EventLoop) {
    if let gap = control.gap, gap.from <= gap.to { note(cursor.lost(gap.from...gap.to), on: loop) }
    guard let epoch = control.epoch else { return }
    note(cursor.opened(epoch: epoch, next: control.next ?? 1), on: loop)
  }

  private func note(_ gap: PublisherCursor.Gap?, on loop: isolated EventLoop) {
    switch gap {
    case .numbers(let numbers): add(.gap(numbers, from: endpoint), on: loop)
    case .unknown: add(.gap(nil, from: endpoint), on: loop)
    case nil: break
    }
  }

  private func add(_ event: SubscriptionEvent, on loop: isolated EventLoop) {
    core.add(event, on: loop)
  }
}
