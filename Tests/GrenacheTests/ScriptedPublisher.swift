import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

/// A publisher that knows no extension, as existing ones are, unless it is given a subprotocol, and does what a test says with each
/// subscriber that connects.
struct ScriptedPublisher: Sendable {
  typealias Script = @Sendable (WebSocketConnection, isolated EventLoop) -> Void

  let endpoint: Endpoint
  private let server: HTTPServer
  private let state = State()

  private final class State: Sendable {
    let callers = Mutex<[PeerIdentity?]>([])
  }

  private final class Handler: WebSocketHandler {
    private var script: Script?
    private let whenClosed: @Sendable () -> Void

    init(_ script: @escaping Script, _ whenClosed: @escaping @Sendable () -> Void) {
      self.script = script
      self.whenClosed = whenClosed
    }

    func closed(
      _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
    ) {
      whenClosed()
    }

    func passEnded(of connection: WebSocketConnection, on loop: isolated EventLoop) {
      let script = self.script
      self.script = nil
      script?(connection, loop)
    }

    func received(
      _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
      on loop: isolated EventLoop
    ) {}
  }

  init(
    tls: TLSConfiguration, port: UInt16 = 0, subprotocols: [String] = [],
    script: @escaping Script, closed: @escaping @Sendable () -> Void = {}
  ) async throws {
    let state = state
    var configuration = HTTPServerConfiguration()
    configuration.webSocketOptions.subprotocols = subprotocols
    server = try await HTTPServer(
      on: .loopback(port: port), context: try TLSContext(tls),
      configuration: configuration,
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.upgradeRequired) },
        openWebSocket: { request, _ in
          state.callers.withLock { $0.append(request.identity) }
          return Handler(script, closed)
        }),
      group: EventLoopGroup.shared(), logger: quietLogger)
    endpoint = Endpoint(server.localAddress)
  }

  /// Who has connected, one after the other.
  var callers: [PeerIdentity?] { state.callers.withLock { $0 } }

  func stop() async { await server.shutDown(within: .zero) }
}

extension SubscriptionEvent {
  /// The text of a message, or what is missing.
  var summary: String {
    switch self {
    case .message(let message, _): message.text
    case .gap(let numbers, _, _): numbers.map { "\($0.lowerBound)...\($0.upperBound)" } ?? "gap"
    }
  }
}
