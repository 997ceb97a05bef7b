internal import Foundation
public import GrenacheFraming
internal import GrenacheIO
public import GrenacheTLS
public import GrenacheTransport

/// The limits of a client.
public struct PeerRPCClientConfiguration: Sendable {
  /// How long a call may take on the whole, lookup and connecting included (default 10 s).
  public var callTimeout = Duration.seconds(10)
  /// How long connecting to one worker may take before the next one is tried (default 3 s).
  public var connectTimeout = Duration.seconds(3)
  /// Connections to one worker (default 3); calls share them.
  public var connectionsPerWorkerMax = 3
  /// With this many calls in flight on every connection another one is opened (default 64).
  public var callsPerConnection = 64
  /// Calls in flight at once, all workers together (default 100,000).
  public var callsInFlightMax = 100_000
  /// How long a worker that could not be reached is passed over, at first; the time doubles with
  /// each failure up to 30 s (default 250 ms).
  public var sitOutTime = Duration.milliseconds(250)
  /// How long a connection without calls is kept (default 120 s).
  public var idleTimeout = Duration.seconds(120)
  /// What a reply may hold.
  public var webSocket = WebSocketLimits()
  /// Who may answer for a service, other than by default: its certificate names the service by a
  /// URI `grenache:<service>` or the address by an IP or DNS name.
  public var verification: PeerVerification?

  /// The defaults.
  public init() {}
}

/// A worker's answer as it came.
public struct RPCReply: Sendable {
  /// The result: one JSON value.
  public let result: [UInt8]
  /// Who answered, as its certificate says; `nil` only without TLS.
  public let identity: PeerIdentity?
  /// What the connection negotiated, as OpenSSL names it; `nil` only without TLS.
  public let negotiated: TLSNegotiation?
  /// The worker that answered.
  public let worker: Endpoint
}

/// Calls services over WSS: finds their workers through a link, chooses one, and keeps connections.
///
/// A call is sent to one worker. Workers that cannot be reached or cannot prove who they are get no
/// byte of it and are passed over for a while; the next one is tried within the call's deadline.
public final class PeerRPCClient: Sendable {
  private let link: Link
  private let configuration: PeerRPCClientConfiguration
  private let core: LoopBound<RPCClientCore>

  /// A client that finds workers through `link` and shares its certificates and its loop.
  public init(
    link: Link, configuration: PeerRPCClientConfiguration = PeerRPCClientConfiguration()
  ) async {
    self.link = link
    self.configuration = configuration
    core = await link.loop.run { loop in
      LoopBound(RPCClientCore(link: link, configuration: configuration), on: loop)
    }
  }

  /// Calls `service` with a `Codable` payload and decodes its result.
  ///
  /// - Throws: `GrenacheError`.
  public func request<Payload: Encodable, Output: Decodable>(
    _ service: String, _ payload: Payload, as type: Output.Type = Output.self,
    within timeout: Duration? = nil
  ) async throws(GrenacheError) -> Output {
    let bytes: [UInt8]
    do {
      bytes = Array(try JSONEncoder().encode(payload))
    } catch {
      throw GrenacheError(.invalidPayload, "the payload cannot be encoded: \(error)")
    }
    let reply = try await requestRaw(service, bytes, within: timeout)
    do {
      return try JSONDecoder().decode(type, from: Data(reply.result))
    } catch {
      throw GrenacheError(.invalidReply, "the result of \(service) cannot be decoded: \(error)")
    }
  }

  /// Calls `service` with JSON text and returns the reply as it came.
  ///
  /// - Parameters:
  ///   - payload: one JSON value.
  ///   - worker: the one worker to call; without it, one that the lookup finds.
  /// - Throws: `GrenacheError`; `invalidPayload` when the payload is not one JSON value.
  public func requestRaw(
    _ service: String, _ payload: [UInt8], to worker: Endpoint? = nil,
    within timeout: Duration? = nil
  ) async throws(GrenacheError) -> RPCReply {
    guard JSONScanner.isOneValue(payload.span) else {
      throw GrenacheError(.invalidPayload, "the payload of \(service) is not one JSON value")
    }
    let deadline = MonotonicTime.now() + (timeout ?? configuration.callTimeout)
    let core = core
    return try await Self.request(
      service, payload, to: worker, by: deadline, core: core, on: core.loop)
  }

  /// Closes the connections; calls in flight fail with `connectionLost`.
  public func close() async {
    let core = core
    await core.loop.run { loop in core.get(on: loop).close(on: loop) }
  }

  private static func request(
    _ service: String, _ payload: [UInt8], to worker: Endpoint?, by deadline: MonotonicTime,
    core: LoopBound<RPCClientCore>, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    try await core.get(on: loop).request(service, payload, to: worker, by: deadline, on: loop)
  }
}
