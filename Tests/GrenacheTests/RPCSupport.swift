import Grenache
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging
import Synchronization
import TestSupport

/// Runs a server of `services` while `body` runs, and passes on where it listens.
func withServer<Result: Sendable>(
  _ services: [RPCService], tls: TLSConfiguration, link: Link? = nil, logger: Logger = quietLogger,
  configure: @Sendable (inout PeerRPCServerConfiguration) -> Void = { _ in },
  _ body: @escaping @Sendable (Endpoint) async throws -> Result
) async throws -> Result {
  var configuration = PeerRPCServerConfiguration(port: 0, tls: tls)
  configuration.host = "127.0.0.1"
  configuration.drainTimeout = .milliseconds(100)
  configure(&configuration)
  let server = PeerRPCServer(
    configuration, services: services, link: link, logger: logger)
  let (addresses, continuation) = AsyncStream.makeStream(of: SocketAddress.self)
  return try await withThrowingTaskGroup(of: Result?.self) { group in
    group.addTask {
      try await server.run { address in
        continuation.yield(address)
        continuation.finish()
      }
      return nil
    }
    group.addTask {
      for await address in addresses { return try await body(Endpoint(address)) }
      return nil
    }
    defer { group.cancelAll() }
    while let result = try await group.next() {
      if let result {
        group.cancelAll()
        return result
      }
    }
    throw CancellationError()
  }
}

/// A client whose link has a grape that nothing is asked of: calls name their worker.
func directClient(
  _ tls: TLSConfiguration, group: EventLoopGroup? = nil,
  configure: (inout PeerRPCClientConfiguration) -> Void = { _ in }
) async throws -> PeerRPCClient {
  let nowhere = Endpoint(host: "127.0.0.1", port: 1)
  let link = try await Link(
    LinkConfiguration(grapes: [nowhere], tls: tls), group: group, logger: quietLogger)
  var configuration = PeerRPCClientConfiguration()
  configure(&configuration)
  return await PeerRPCClient(link: link, configuration: configuration)
}

/// Answers with what it is given.
let echo = RPCService(raw: "rpc_test") { request in request.payload }

/// Answers `hello` with `world`.
let hello = RPCService("rpc_test") { (payload: String, _) -> String in
  payload == "hello" ? "world" : "what?"
}

/// Waits until its task is cancelled, and counts what happens to it.
func waitingService(begun: Tally, cancelled: Tally) -> RPCService {
  RPCService(raw: "rpc_test") { request in
    await begun.add()
    await untilCancelled()
    await cancelled.add(Task.isCancelled ? 1 : 0)
    return request.payload
  }
}

/// What `body` fails with, if it does.
func grenacheError(_ body: () async throws -> Void) async -> GrenacheError? {
  do {
    try await body()
    return nil
  } catch {
    return error as? GrenacheError
  }
}
