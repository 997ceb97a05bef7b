internal import Foundation

/// A service by name and what answers its calls.
public struct RPCService: Sendable {
  /// Answers one call with one JSON value.
  ///
  /// It runs on the event loop of the caller's connection until it suspends: work that takes long
  /// without suspending belongs into a `@concurrent` function.
  public typealias Handler = @Sendable (RPCRequest) async throws -> [UInt8]

  /// The name under which the service is announced and called.
  public let name: String
  let handler: Handler

  /// A service that takes and gives JSON text as bytes.
  public init(raw name: String, _ handler: @escaping Handler) {
    self.name = name
    self.handler = handler
  }

  /// A service that takes and gives `Codable` values.
  public init<Input: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
    _ name: String, _ handler: @escaping @Sendable (Input, RPCRequest) async throws -> Output
  ) {
    self.init(raw: name) { request in
      let input = try request.decode(Input.self)
      let output = try await handler(input, request)
      return Array(try JSONEncoder().encode(output))
    }
  }
}
