internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport

/// One publisher as a subscriber knows it, confined to the subscriber's loop: connected, or waiting to
/// connect again.
final class FollowedPublisher: WebSocketHandler {
  private let endpoint: Endpoint
  private unowned let core: SubCore
  private var connection: WebSocketConnection?
  private var task: Task<Void, Never>?
  private var isStopped = false
  private var isExtended = false
  /// Kept until the connection has closed.
  private var closing: LoopPromise<Void>?
  /// The run of the publisher that is known, and the last of its messages.
  private var epoch: String?
  private var last: UInt64 = 0
  private var hasBeenConnected = false

  init(_ endpoint: Endpoint, core: SubCore) {
    self.endpoint = endpoint
    self.core = core
  }

  var isConnected: Bool { connection?.isOpen == true }

  func start(on loop: isolated EventLoop) {
    task = Task { await run(on: loop) }
  }

  func stop(on loop: isolated EventLoop) {
    isStopped = true
    task?.cancel()
    connection?.close(.normal, on: loop)
  }

  func resume(on loop: isolated EventLoop) {
    connection?.resumeReading(on: loop)
  }

  private func run(on loop: isolated EventLoop) async {
    var failures = 0
    while !isStopped {
      let closing = LoopPromise<Void>()
      self.closing = closing
      connection = nil
      if await connect(on: loop) {
        failures = 0
        _ = await closing.wait(until: MonotonicTime(nanoseconds: .max / 2), on: loop)
      }
      guard !isStopped else { return }
      try? await Task.sleep(for: pause(after: failures))
      failures = min(failures + 1, 16)
    }
  }

  /// Drawn by chance, so that many subscribers do not come back at once.
  private func pause(after failures: Int) -> Duration {
    let settings = core.configuration
    let longest = min(settings.reconnectDelayMin * (1 << failures), settings.reconnectDelayMax)
    return longest * Double.random(in: 0.5...1)
  }

  private func connect(on loop: isolated EventLoop) async -> Bool {
    let settings = core.configuration
    // Nobody vouches for what a lookup has found: who answers it could name an address of their own.
    let address = settings.acceptsPublishersByAddress ? endpoint.host : nil
    let verification = settings.verification ?? .service(core.key, address: address)
    guard
      let made = try? await WebSocketClient.connect(
        to: Destination(endpoint, verification: verification), context: core.link.context,
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

  private func opened(_ connection: WebSocketConnection, on loop: isolated EventLoop) {
    self.connection = connection
    isExtended = connection.subprotocol == PubWire.subprotocol
    if isExtended {
      let subscribe = PubWire.Subscribe(
        topics: core.configuration.topics, after: epoch == nil ? nil : last, epoch: epoch)
      connection.send(.text, PubWire.subscribe(subscribe).span, on: loop)
    } else if hasBeenConnected {
      // What was missed meanwhile, nobody knows.
      add(.gap(nil, from: endpoint), on: loop)
    }
    hasBeenConnected = true
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
    if self.connection == nil { opened(connection, on: loop) }
    guard isExtended else {
      let message = kind == .text ? PubMessage(payload.string()) : PubMessage(bytes: payload.copy())
      return add(.message(message, from: endpoint), on: loop)
    }
    if kind == .text, payload.count > 0, payload[0] == 0x7b {
      guard let control = PubWire.control(from: payload.copy()) else { return }
      return heard(control, on: loop)
    }
    guard let message = PubWire.message(kind, payload) else { return }
    if let number = message.number { last = number }
    add(.message(message, from: endpoint), on: loop)
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    if self.connection === connection { self.connection = nil }
    closing?.fulfil((), on: loop)
  }

  private func heard(_ control: PubWire.Control, on loop: isolated EventLoop) {
    if let gap = control.gap, gap.from <= gap.to {
      last = max(last, gap.to)
      add(.gap(gap.from...gap.to, from: endpoint), on: loop)
    }
    guard let epoch = control.epoch else { return }
    if epoch != self.epoch {
      // Another run of the publisher: of the one before, what came after is lost.
      if self.epoch != nil { add(.gap(nil, from: endpoint), on: loop) }
      self.epoch = epoch
      last = (control.next ?? 1) - min(control.next ?? 1, 1)
    }
  }

  private func add(_ event: SubscriptionEvent, on loop: isolated EventLoop) {
    if !core.add(event, on: loop) { connection?.pauseReading(on: loop) }
  }
}
