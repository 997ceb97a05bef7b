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

  /// - Parameter tls: `nil` for one in the clear.
  init(tls: TLSConfiguration?) async throws {
    let state = state
    server = try await HTTPServer(
      on: .loopback(port: 0), context: try tls.map { try TLSContext($0) },
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
struct RunningWorker: Sendable {
  private let running: RunningTask<SocketAddress>

  init(
    _ services: [RPCService], tls: TLSConfiguration,
    configure: (inout PeerRPCServerConfiguration) -> Void = { _ in }
  ) async throws {
    var configuration = PeerRPCServerConfiguration(port: 0, tls: tls)
    configuration.host = "127.0.0.1"
    configuration.drainTimeout = .zero
    configure(&configuration)
    let server = PeerRPCServer(
      configuration, services: services, group: try EventLoopGroup(count: 1), logger: quietLogger)
    running = try await RunningTask { started in try await server.run { started($0) } }
  }

  var endpoint: Endpoint { Endpoint(running.place) }

  /// Ends the worker, in order, within its drain deadline.
  func stop() async { await running.stop() }
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

/// A peer that speaks the extension, says what a test wants, and reads only when it is to.
struct RawPeer: Sendable {
  /// The replies that have been heard.
  let heard = Tally()
  private let replies = Replies()
  private let connection: LoopBound<WebSocketConnection>

  private final class Replies: Sendable {
    let texts = Mutex<[String]>([])
  }

  private final class Handler: WebSocketHandler {
    private let heard: Tally
    private let replies: Replies

    init(_ heard: Tally, _ replies: Replies) {
      self.heard = heard
      self.replies = replies
    }

    func received(
      _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
      on loop: isolated EventLoop
    ) {
      let text = payload.extracting(first: min(payload.count, 100)).string()
      replies.texts.withLock { $0.append(text) }
      Task { [heard] in await heard.add() }
    }
  }

  init(to worker: Endpoint, tls: TLSConfiguration) async throws {
    connection = try await Self.connect(
      worker, try TLSContext(tls), heard, replies, on: EventLoopGroup.shared().next())
  }

  private static func connect(
    _ worker: Endpoint, _ context: TLSContext, _ heard: Tally, _ replies: Replies,
    on loop: isolated EventLoop
  ) async throws -> LoopBound<WebSocketConnection> {
    let connection = try await WebSocketClient.connect(
      to: Destination(worker, verification: .service("rpc_test")), context: context,
      limits: WebSocketLimits(),
      options: WebSocketOptions(subprotocols: RPCCallContext.offeredSubprotocols),
      handler: Handler(heard, replies), by: .now() + .seconds(10), on: loop)
    return LoopBound(connection, on: loop)
  }

  /// The beginnings of the replies, in the order in which they have come.
  var texts: [String] { replies.texts.withLock { $0 } }

  /// Says all of `texts` at once.
  func say(_ texts: [String]) async {
    let connection = connection
    await connection.loop.run { loop in
      for text in texts {
        connection.get(on: loop).send(.text, Array(text.utf8).span, on: loop)
      }
    }
  }

  func stopReading() async {
    let connection = connection
    await connection.loop.run { loop in connection.get(on: loop).pauseReading(on: loop) }
  }

  func readOn() async {
    let connection = connection
    await connection.loop.run { loop in connection.get(on: loop).resumeReading(on: loop) }
  }

  func close() async {
    let connection = connection
    await connection.loop.run { loop in connection.get(on: loop).close(.normal, on: loop) }
  }
}
