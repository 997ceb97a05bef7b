import GrenacheFraming
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import Synchronization
import TestSupport

@testable import Grenache

/// Tests with publishers and subscribers of `news`.
protocol NewsSuite {
  var authority: TestAuthority { get }
}

extension NewsSuite {
  func secure() throws -> PeerPubConfiguration {
    PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
  }

  func subscriber(
    _ grape: FixedGrape, configure: (inout PeerSubConfiguration) -> Void = { _ in }
  ) async throws -> PeerSub {
    try await GrenacheTests.subscriber(
      grape.endpoint, try authority.client(), configure: configure)
  }
}

/// A publisher that a test starts and ends.
struct RunningPub: Sendable {
  let pub: PeerPub
  private let running: RunningTask<SocketAddress>

  init(
    _ key: String, _ base: PeerPubConfiguration, link: Link? = nil, group: EventLoopGroup? = nil,
    logger: Logger = quietLogger, configure: (inout PeerPubConfiguration) -> Void = { _ in }
  ) async throws {
    var configuration = base
    configuration.host = "127.0.0.1"
    configuration.drainTimeout = .milliseconds(100)
    configure(&configuration)
    let pub = try await PeerPub(
      key, configuration, link: link, group: group, logger: logger)
    self.pub = pub
    running = try await RunningTask { started in try await pub.run { started($0) } }
  }

  var endpoint: Endpoint { Endpoint(running.place) }

  func subscribers(_ count: Int) async throws {
    try await eventually { await pub.subscriberCount == count }
  }

  /// Breaks the subscribers' connections off and ends, as the death of its process would.
  func vanish() async {
    await pub.abortSubscribers()
    await stop()
  }

  func stop() async { await running.stop() }
}

/// A subscriber's connection that hears everything and says what a test wants.
struct RawSubscriber: Sendable {
  private let bound: LoopBound<(Recorder, WebSocketConnection)>

  private final class Recorder: WebSocketHandler {
    var texts: [String] = []
    var isClosed = false
    var changed = LoopPromise<Void>()

    func received(
      _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
      on loop: isolated EventLoop
    ) {
      let text = payload.string()
      texts.append(kind == .text ? text : "bytes:\(text)")
      tell(on: loop)
    }

    func closed(
      _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
    ) {
      isClosed = true
      tell(on: loop)
    }

    private func tell(on loop: isolated EventLoop) {
      changed.fulfil((), on: loop)
      changed = LoopPromise()
    }
  }

  init(
    to endpoint: Endpoint, tls: TLSConfiguration?, subprotocols: [String] = [], reads: Bool = true,
    receiveBufferBytes: Int? = nil
  ) async throws {
    let context = try tls.map { try TLSContext($0) }
    bound = try await Self.connect(
      endpoint, context, subprotocols, reads, receiveBufferBytes,
      on: EventLoopGroup.shared().next())
  }

  private static func connect(
    _ endpoint: Endpoint, _ context: TLSContext?, _ subprotocols: [String], _ reads: Bool,
    _ receiveBufferBytes: Int?, on loop: isolated EventLoop
  ) async throws -> LoopBound<(Recorder, WebSocketConnection)> {
    let recorder = Recorder()
    var limits = ByteStreamLimits()
    limits.receiveBufferBytes = receiveBufferBytes
    let connection = try await WebSocketClient.connect(
      to: Destination(endpoint, verification: .service("news")), context: context,
      limits: WebSocketLimits(), options: WebSocketOptions(subprotocols: subprotocols),
      stream: limits, handler: recorder, by: .now() + .seconds(10), on: loop)
    if !reads { connection.pauseReading(on: loop) }
    return LoopBound((recorder, connection), on: loop)
  }

  /// Reads nothing for a while.
  func pause() async {
    let bound = bound
    await bound.loop.run { loop in bound.get(on: loop).1.pauseReading(on: loop) }
  }

  /// Goes on reading.
  func resume() async {
    let bound = bound
    await bound.loop.run { loop in bound.get(on: loop).1.resumeReading(on: loop) }
  }

  /// What has come by the time that `isEnough` says so, or that the connection has closed, nothing has come
  /// for long, or the task is cancelled.
  func heard(
    until isEnough: @escaping @Sendable ([String]) -> Bool
  ) async -> [String] {
    await Self.wait(bound, until: isEnough, on: bound.loop)
  }

  private static func wait(
    _ bound: LoopBound<(Recorder, WebSocketConnection)>,
    until isEnough: @Sendable ([String]) -> Bool, on loop: isolated EventLoop
  ) async -> [String] {
    let recorder = bound.get(on: loop).0
    while !isEnough(recorder.texts), !recorder.isClosed {
      guard case .value = await recorder.changed.wait(until: .now() + .seconds(30), on: loop) else {
        break
      }
    }
    return recorder.texts
  }

  func say(_ text: String) async {
    let bound = bound
    await bound.loop.run { loop in
      bound.get(on: loop).1.send(.text, Array(text.utf8).span, on: loop)
    }
  }

  func heard(_ count: Int) async -> [String] {
    await heard(until: { $0.count >= count })
  }
}

/// A subscriber of `news` whose link asks `grape`.
func subscriber(
  _ grape: Endpoint, _ tls: TLSConfiguration,
  configure: (inout PeerSubConfiguration) -> Void = { _ in }
) async throws -> PeerSub {
  let link = try await Link(
    LinkConfiguration(grapes: [grape], tls: tls), logger: quietLogger)
  var configuration = PeerSubConfiguration()
  configuration.lookupInterval = .milliseconds(100)
  configuration.reconnectDelayMin = .milliseconds(20)
  configure(&configuration)
  return try await PeerSub("news", link: link, configuration: configuration)
}

private final class Kept<Value: Sendable>: Sendable {
  let value = Mutex<Value?>(nil)
}

/// The first `count` events while the subscriber runs. What `start` returns lives until they have come.
func events<Living: Sendable>(
  of sub: PeerSub, _ count: Int, after start: @escaping @Sendable () async throws -> Living
) async throws -> [SubscriptionEvent] {
  let kept = Kept<Living>()
  defer { kept.value.withLock { $0 = nil } }
  return try await withThrowingTaskGroup(of: [SubscriptionEvent]?.self) { group in
    group.addTask {
      await sub.run()
      return nil
    }
    group.addTask {
      let living = try await start()
      kept.value.withLock { $0 = living }
      return nil
    }
    group.addTask {
      var events: [SubscriptionEvent] = []
      for await event in sub {
        events.append(event)
        if events.count == count { break }
      }
      return events
    }
    while let result = try await group.next() {
      if let result {
        group.cancelAll()
        return result
      }
    }
    return []
  }
}

/// A grape that a test starts and ends.
struct RunningGrape: Sendable {
  private let running: RunningTask<GrapeNode.Addresses>

  init(tls: TLSConfiguration, port: UInt16 = 0) async throws {
    var configuration = GrapeConfiguration(apiPort: port, dhtPort: 0, tls: tls)
    configuration.host = "127.0.0.1"
    configuration.dhtHost = "127.0.0.1"
    let grape = GrapeNode(configuration, logger: quietLogger)
    running = try await RunningTask { started in try await grape.run { started($0) } }
  }

  var endpoint: Endpoint { Endpoint(running.place.api) }

  func stop() async { await running.stop() }
}
