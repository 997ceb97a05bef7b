import ArgumentParser
import GrenacheCommandSupport
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import ServiceLifecycle

/// `grenache echo`
struct Echo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Echo WebSocket messages and HTTP bodies, for conformance suites and benchmarks.")

  @Option(name: .shortAndLong, help: "The port; 0 for any.")
  var port: UInt16
  @Option(help: "Event loops, one thread each.")
  var threads = 1
  @Option(help: "The address to listen on.", completion: .list(["127.0.0.1", "::1", "::"]))
  var bind = "127.0.0.1"
  @Option(help: "Largest WebSocket message in bytes.")
  var messageBytes = 32 << 20
  @OptionGroup var tls: TLSOptions
  @OptionGroup var logging: LoggingOptions

  func run() async throws {
    try await runCommand {
      let logger = try logging.logger("grenache")
      guard threads > 0, threads <= 256 else {
        throw CommandFailure(.usage, "--threads: between 1 and 256.")
      }
      let address = try bindAddress(bind, port: port)
      let context = try tls.configuration().map { try TLSContext($0) }
      try tls.checkPlaintext(listeningOnLoopback: address.isLoopback)
      if context == nil { logger.warning("plaintext: anybody may connect") }
      context?.logInsecureOptions(role: "echo", logger)
      let server = EchoServer(
        address: address, context: context, threads: threads, messageBytes: messageBytes,
        logger: logger)
      try await runServices([server], logger: logger)
    }
  }
}

/// The echo server as a service.
private struct EchoServer: Service {
  let address: SocketAddress
  let context: TLSContext?
  let threads: Int
  let messageBytes: Int
  let logger: Logger

  func run() async throws {
    var configuration = HTTPServerConfiguration()
    configuration.webSocket = WebSocketLimits(
      messageBytesMax: messageBytes, fragmentsMax: .max, controlFramesMax: .max)
    configuration.http.bodyBytesMax = messageBytes
    let server = try await HTTPServer(
      on: address, context: context, configuration: configuration,
      handlers: HTTPServerHandlers(
        respond: { request in HTTPServerResponse(.ok, body: request.body) },
        openWebSocket: { _, _ in EchoHandler() }),
      group: EventLoopGroup(count: threads), logger: logger)
    printLine("echo at \(server.localAddress)")
    let certificates = context.map { FileReloader($0, role: "echo", logger: logger) }
    await FileReloader.runUntilShutdown([certificates].compactMap(\.self))
    await server.shutDown(within: .seconds(2))
  }
}

/// Sends every message back as it came.
private final class EchoHandler: WebSocketHandler {
  func received(
    _ kind: WebSocketMessageKind, _ payload: Span<UInt8>, from connection: WebSocketConnection,
    on loop: isolated EventLoop
  ) {
    connection.send(kind, payload, on: loop)
  }
}
