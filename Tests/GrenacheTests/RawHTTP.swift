import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport

/// Sends requests as they are to a worker, over mutual TLS or in the clear.
struct RawHTTP: Sendable {
  private let client: LoopBound<HTTPClient>
  private let destination: Destination

  init(to worker: Endpoint, tls: TLSConfiguration?) async throws {
    let context = try tls.map { try TLSContext($0) }
    client = try await EventLoopGroup.shared().next().run { loop in
      LoopBound(HTTPClient(context: context), on: loop)
    }
    destination = Destination(worker, verification: .service("rpc_test"))
  }

  func post(
    _ body: [UInt8], _ fields: HTTPFields = [], method: HTTPMethod = .post, path: String = "/"
  ) async throws -> HTTPClientResponse {
    try await Self.send(
      HTTPClientRequest(method, path, fields: fields, body: body), client, destination,
      on: client.loop)
  }

  func post(_ body: String, _ fields: HTTPFields = []) async throws -> String {
    String(decoding: try await post(Array(body.utf8), fields).body, as: UTF8.self)
  }

  private static func send(
    _ request: HTTPClientRequest, _ client: LoopBound<HTTPClient>, _ destination: Destination,
    on loop: isolated EventLoop
  ) async throws(TransportError) -> HTTPClientResponse {
    try await client.get(on: loop).send(
      request, to: destination, by: .now() + .seconds(10), isRetryable: true, on: loop)
  }
}
