import Foundation
import Grenache
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import Synchronization
import TestSupport

/// A grape that answers every lookup with the workers that a test names.
struct FixedGrape: Sendable {
  let endpoint: Endpoint
  private let server: HTTPServer
  private let state = State()

  private final class State: Sendable {
    let workers = Mutex<[Endpoint]>([])
    let asked = Mutex(0)
  }

  init(tls: TLSConfiguration) async throws {
    let state = state
    server = try await HTTPServer(
      on: .loopback(port: 0), context: try TLSContext(tls),
      configuration: HTTPServerConfiguration(),
      handlers: HTTPServerHandlers(respond: { request in
        guard request.target == "/lookup" else { return HTTPServerResponse(.ok, body: [0x31]) }
        state.asked.withLock { $0 += 1 }
        let names = state.workers.withLock { $0.map { "\"\($0)\"" } }.joined(separator: ",")
        return HTTPServerResponse(.ok, body: Array("[\(names)]".utf8))
      }),
      group: EventLoopGroup.shared(), logger: quietLogger)
    endpoint = Endpoint(server.localAddress)
  }

  var lookups: Int { state.asked.withLock { $0 } }

  func answer(_ workers: [Endpoint]) { state.workers.withLock { $0 = workers } }

  func stop() async { await server.shutDown(within: .zero) }
}

/// A worker that a test starts and ends.
final class RunningWorker: Sendable {
  let endpoint: Endpoint
  private let task: Task<Void, any Error>

  init(
    _ services: [RPCService], tls: TLSConfiguration,
    configure: (inout PeerRPCServerConfiguration) -> Void = { _ in }
  ) async throws {
    var configuration = PeerRPCServerConfiguration(port: 0, tls: tls)
    configuration.host = "127.0.0.1"
    configuration.drainDeadline = .zero
    configure(&configuration)
    let server = PeerRPCServer(
      configuration, services: services, group: try EventLoopGroup(count: 1), logger: quietLogger)
    let (addresses, listening) = AsyncThrowingStream.makeStream(of: SocketAddress.self)
    task = Task {
      do {
        try await server.run { listening.yield($0) }
      } catch {
        listening.finish(throwing: error)
        throw error
      }
    }
    var iterator = addresses.makeAsyncIterator()
    guard let address = try await iterator.next() else { throw CancellationError() }
    endpoint = Endpoint(address)
  }

  deinit { task.cancel() }

  /// Ends the worker, in order, within its drain deadline.
  func stop() async {
    task.cancel()
    _ = try? await task.value
  }
}

/// Workers of `rpc_test`, a grape that knows them, and a client that asks it.
struct WorkerFleet: Sendable {
  let grape: FixedGrape
  let workers: [RunningWorker]
  let client: PeerRPCClient

  init(
    _ services: [RPCService], authority: TestAuthority,
    configureServer: (inout PeerRPCServerConfiguration) -> Void = { _ in },
    configure: (inout PeerRPCClientConfiguration) -> Void = { _ in }
  ) async throws {
    grape = try await FixedGrape(tls: try authority.host())
    var workers: [RunningWorker] = []
    for service in services {
      workers.append(
        try await RunningWorker(
          [service], tls: try authority.worker("rpc_test"), configure: configureServer))
    }
    self.workers = workers
    grape.answer(workers.map(\.endpoint))
    let link = try await Link(
      LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client()),
      logger: quietLogger)
    var configuration = PeerRPCClientConfiguration()
    configure(&configuration)
    client = await PeerRPCClient(link: link, configuration: configuration)
  }

  func stop() async {
    await client.close()
    for worker in workers { await worker.stop() }
    await grape.stop()
  }
}

/// A peer that speaks the extension, says what a test wants and hears nothing.
struct SilentPeer: Sendable {
  private let connection: LoopBound<WebSocketConnection>

  private final class Handler: WebSocketHandler {
    func received(
      _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
      on loop: isolated EventLoop
    ) {}
  }

  init(to worker: Endpoint, tls: TLSConfiguration) async throws {
    connection = try await Self.connect(
      worker, try TLSContext(tls), on: EventLoopGroup.shared().next())
  }

  private static func connect(
    _ worker: Endpoint, _ context: TLSContext, on loop: isolated EventLoop
  ) async throws -> LoopBound<WebSocketConnection> {
    let connection = try await WebSocketClient.connect(
      to: Destination(worker, verification: .service("rpc_test")), context: context,
      limits: WebSocketLimits(),
      options: WebSocketOptions(subprotocols: RPCCallContext.offeredSubprotocols),
      handler: Handler(), by: .now() + .seconds(10), on: loop)
    return LoopBound(connection, on: loop)
  }

  func say(_ text: String) async {
    let connection = connection
    await connection.loop.run { loop in
      connection.get(on: loop).send(.text, Array(text.utf8).span, on: loop)
    }
  }
}

/// Keeps what is logged.
final class LogRecorder: Sendable {
  private let seen = Mutex<[String: Logger.Level]>([:])
  private let all = Mutex<[(message: String, metadata: Logger.Metadata)]>([])

  /// The messages of warnings.
  var warnings: [String] {
    seen.withLock { $0.filter { $0.value == .warning }.map(\.key).sorted() }
  }

  /// The metadata of each line with that message.
  func lines(_ message: String) -> [Logger.Metadata] {
    all.withLock { $0.filter { $0.message == message }.map(\.metadata) }
  }

  /// At which level a message has been logged, if it has.
  func level(of message: String) -> Logger.Level? { seen.withLock { $0[message] } }

  var logger: Logger {
    var logger = Logger(label: "test") { _ in Handler(recorder: self) }
    logger.logLevel = .trace
    return logger
  }

  private struct Handler: LogHandler {
    let recorder: LogRecorder
    var logLevel = Logger.Level.trace
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      recorder.seen.withLock { $0[event.message.description] = event.level }
      recorder.all.withLock { $0.append((event.message.description, event.metadata ?? [:])) }
    }
  }
}

/// Something that happens once, seen from anywhere.
final class Flag: Sendable {
  private let value = Atomic<Bool>(false)
  var isSet: Bool { value.load(ordering: .acquiring) }
  func set() { value.store(true, ordering: .releasing) }
}

/// A number that tests await.
actor Tally {
  private var waiting: [(Int, CheckedContinuation<Void, Never>)] = []
  private(set) var value = 0

  func add(_ count: Int = 1) {
    value += count
    for (_, waiter) in waiting.filter({ $0.0 <= value }) { waiter.resume() }
    waiting.removeAll { $0.0 <= value }
  }

  func reaches(_ count: Int) async {
    if value >= count { return }
    await withCheckedContinuation { waiting.append((count, $0)) }
  }
}
