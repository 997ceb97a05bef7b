import GrenacheFraming
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import TestSupport

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Runs a grape while `body` runs.
func withGrape<Result: Sendable>(
  tls: TLSConfiguration, bootstrap: [Endpoint] = [],
  configure: @Sendable (inout GrapeConfiguration) -> Void = { _ in },
  _ body: @escaping @Sendable (GrapeNode.Addresses) async throws -> Result
) async throws -> Result {
  var configuration = GrapeConfiguration(apiPort: 0, dhtPort: 0, bootstrap: bootstrap, tls: tls)
  configuration.host = "127.0.0.1"
  configuration.dhtHost = "127.0.0.1"
  configure(&configuration)
  let grape = GrapeNode(configuration, logger: quietLogger)
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
