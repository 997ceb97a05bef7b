import GrenacheFraming
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import TestSupport

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Passes on what is logged as an error.
struct ErrorLog: LogHandler {
  let messages: AsyncStream<String>
  private let continuation: AsyncStream<String>.Continuation
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.error

  init() { (messages, continuation) = AsyncStream.makeStream(of: String.self) }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) { continuation.yield("\(event.message)") }
}

/// Runs a grape while `body` runs.
func withGrape<Result: Sendable>(
  tls: TLSConfiguration, bootstrap: [Endpoint] = [], logger: Logger = quietLogger,
  configure: @Sendable (inout GrapeConfiguration) -> Void = { _ in },
  _ body: @escaping @Sendable (GrapeNode.Addresses) async throws -> Result
) async throws -> Result {
  var configuration = GrapeConfiguration(apiPort: 0, dhtPort: 0, bootstrap: bootstrap, tls: tls)
  configuration.host = "127.0.0.1"
  configuration.dhtHost = "127.0.0.1"
  configure(&configuration)
  return try await withRunning(GrapeNode(configuration, logger: logger), body)
}

/// Runs a grape in the clear while `body` runs.
func withPlaintextGrape<Result: Sendable>(
  configure: @Sendable (inout GrapeConfiguration) -> Void = { _ in },
  _ body: @escaping @Sendable (GrapeNode.Addresses) async throws -> Result
) async throws -> Result {
  var configuration = GrapeConfiguration.insecurePlaintext(apiPort: 0, dhtPort: 0)
  configure(&configuration)
  return try await withRunning(GrapeNode(configuration, logger: quietLogger), body)
}

/// Runs a grape while `body` runs.
func withRunning<Result: Sendable>(
  _ grape: GrapeNode, _ body: @escaping @Sendable (GrapeNode.Addresses) async throws -> Result
) async throws -> Result {
  let (started, continuation) = AsyncStream.makeStream(of: GrapeNode.Addresses.self)
  return try await withThrowingTaskGroup(of: Result?.self) { group in
    group.addTask {
      try await grape.run { addresses in
        continuation.yield(addresses)
        continuation.finish()
      }
      return nil
    }
    group.addTask {
      for await addresses in started { return try await body(addresses) }
      return nil
    }
    defer { group.cancelAll() }
    while let result = try await group.next() {
      if let result { return result }
    }
    throw CancellationError()
  }
}

/// Runs so many grapes, of which all but the first begin with the first, while `body` runs.
func withGrapes<Result: Sendable>(
  _ count: Int, tls: TLSConfiguration, _ others: [GrapeNode.Addresses] = [],
  _ body: @escaping @Sendable ([GrapeNode.Addresses]) async throws -> Result
) async throws -> Result {
  guard others.count < count else { return try await body(others) }
  return try await withGrape(tls: tls, bootstrap: others.prefix(1).map { Endpoint($0.dht) }) {
    try await withGrapes(count, tls: tls, others + [$0], body)
  }
}

/// Posts `body` and gives the whole answer.
func post(
  _ body: String, _ path: String, to address: SocketAddress, as tls: TLSConfiguration,
  payload: [UInt8]? = nil
) async throws -> (status: Int, body: String, fields: [String]) {
  let context = try TLSContext(tls)
  let loop = try EventLoopGroup.shared().next()
  let response = try await exchange(
    HTTPClientRequest(.post, path, body: payload ?? Array(body.utf8)), address, context, on: loop)
  return (
    response.status.code, String(decoding: response.body, as: UTF8.self),
    response.fields.lines.map(\.name)
  )
}

private func exchange(
  _ request: HTTPClientRequest, _ address: SocketAddress, _ context: TLSContext,
  on loop: isolated EventLoop
) async throws -> HTTPClientResponse {
  let client = HTTPClient(context: context)
  let destination = Destination(Endpoint(address), verification: .name("127.0.0.1"))
  let response = try await client.send(
    request, to: destination, by: .now() + .seconds(10), isRetryable: false, on: loop)
  client.close(on: loop)
  return response
}

struct TimedOut: Error {
  var line = #line
}

/// Waits until a grape knows another one.
func waitUntilReady(_ grape: GrapeNode.Addresses, as tls: TLSConfiguration) async throws {
  try await eventually {
    try await post("", "/healthz/ready", to: grape.api, as: tls).status == 200
  }
}

/// Watches keys over a WebSocket.
final class Watcher: WebSocketHandler {
  private let messages: AsyncStream<String>
  private let continuation: AsyncStream<String>.Continuation
  private var connection: WebSocketConnection?

  init() {
    (messages, continuation) = AsyncStream.makeStream(of: String.self)
  }

  /// A watcher for code that is on no loop.
  struct Handle: Sendable {
    fileprivate let watcher: LoopBound<Watcher>
    fileprivate let messages: AsyncStream<String>

    func send(_ text: String) async throws {
      let watcher = watcher
      await watcher.loop.run { loop in
        watcher.get(on: loop).connection?.send(.text, Array(text.utf8).span, on: loop)
      }
    }

    /// The next message; within 10 s.
    func next() async throws -> String {
      try await withThrowingTaskGroup { group in
        group.addTask { [messages] in
          for await message in messages { return message }
          throw TimedOut()
        }
        group.addTask {
          try await Task.sleep(for: .seconds(10))
          throw TimedOut()
        }
        defer { group.cancelAll() }
        return try await group.next() ?? ""
      }
    }

    func close() async {
      let watcher = watcher
      await watcher.loop.run { loop in
        watcher.get(on: loop).connection?.close(.normal, on: loop)
      }
    }
  }

  static func open(_ address: SocketAddress, as tls: TLSConfiguration) async throws -> Handle {
    try await open(address, TLSContext(tls), on: try EventLoopGroup.shared().next())
  }

  private static func open(
    _ address: SocketAddress, _ context: TLSContext, on loop: isolated EventLoop
  ) async throws -> Handle {
    let watcher = Watcher()
    let destination = Destination(Endpoint(address), verification: .name("127.0.0.1"))
    watcher.connection = try await WebSocketClient.connect(
      to: destination, context: context, limits: WebSocketLimits(),
      handler: watcher, by: .now() + .seconds(10), on: loop)
    return Handle(watcher: LoopBound(watcher, on: loop), messages: watcher.messages)
  }

  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    continuation.yield(payload.string())
  }

  func closed(
    _ connection: WebSocketConnection, _ closure: WebSocketClosure, on loop: isolated EventLoop
  ) {
    continuation.finish()
  }
}
