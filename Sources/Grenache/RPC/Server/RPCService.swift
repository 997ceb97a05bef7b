internal import Foundation

/// A service by name and what answers its calls.
public struct RPCService: Sendable {
  /// Answers one call with one JSON value.
  ///
  /// It runs on the event loop of the caller's connection until it suspends: work that takes long
  /// without suspending belongs into a `@concurrent` function.
  public typealias Handler = @Sendable (RPCRequest) async throws -> [UInt8]

  /// Answers one stream: takes bytes as they come and sends others meanwhile.
  ///
  /// When it returns, the answer is over. When the caller goes away, its task is cancelled.
  public typealias StreamHandler = @Sendable (RPCRequest, RPCServerStream) async throws -> Void

  /// The name under which the service is announced and called.
  public let name: String
  let handler: Handler
  let streamHandler: StreamHandler?
  let takesCalls: Bool
  let load = RPCServiceLoad()
  /// Calls and streams of the service that a server answers at once, all its connections together; more
  /// are turned away with `overloaded`, which tells callers to go to another worker (default 1,000).
  public var callsMax = 1_000

  /// Calls of the service that are being answered at present.
  public var callsInFlight: Int { load.count }

  /// A service that takes and gives JSON text as bytes. A handler that answers with something else than one
  /// JSON value has failed.
  public init(raw name: String, _ handler: @escaping Handler) {
    self.init(raw: name, handler, stream: nil)
  }

  /// A service that takes calls, and streams over HTTPS as well.
  public init(raw name: String, _ handler: @escaping Handler, stream: StreamHandler?) {
    self.name = name
    self.handler = handler
    streamHandler = stream
    takesCalls = true
  }

  /// A service that takes streams only, over HTTPS.
  public init(stream name: String, _ handler: @escaping StreamHandler) {
    self.name = name
    streamHandler = handler
    takesCalls = false
    self.handler = { _ in throw RPCFault("ERR_STREAM_ONLY: \(name) takes streams over HTTPS") }
  }

  /// A service that takes and gives `Codable` values, as `coding` reads and writes them.
  public init<Input: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
    _ name: String, coding: RPCCoding = RPCCoding(),
    _ handler: @escaping @Sendable (Input, RPCRequest) async throws -> Output
  ) {
    self.init(name, coding: coding, handler, stream: nil)
  }

  /// A service that takes and gives `Codable` values, and streams over HTTPS as well.
  public init<Input: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
    _ name: String, coding: RPCCoding = RPCCoding(),
    _ handler: @escaping @Sendable (Input, RPCRequest) async throws -> Output,
    stream: StreamHandler?
  ) {
    let coded: Handler = { request in
      let input = try request.decode(Input.self, coding: coding)
      let output = try await handler(input, request)
      return Array(try coding.makeEncoder().encode(output))
    }
    self.init(raw: name, coded, stream: stream)
  }

  /// What the handler answers a request with, as in a server: for tests of handlers.
  ///
  /// - Throws: what the handler throws; `GrenacheError` `invalidReply` for what is not one JSON value in UTF-8.
  public func answer(_ request: RPCRequest) async throws -> [UInt8] {
    let answer = try await handler(request)
    guard JSONText.isSendable(answer.span) else {
      throw GrenacheError(
        .invalidReply,
        "the handler of \(name) answered with something else than one JSON value in UTF-8, at most "
          + "\(JSONScanner.depthMax) levels deep")
    }
    return answer
  }
}
