public import GrenacheFraming
internal import GrenacheIO
public import GrenacheTLS
public import GrenacheTransport
internal import Logging
public import ServiceLifecycle

/// The limits of a client.
public struct PeerRPCClientConfiguration: Sendable {
  /// How long a call may take on the whole, lookup and connecting included (default 10 s).
  public var callTimeout = Duration.seconds(10)
  /// How long connecting to one worker may take before the next one is tried (default 3 s).
  public var connectTimeout = Duration.seconds(3)
  /// Connections to one worker, which calls of one service share; existing peers call it `maxActiveDestTransports`
  /// (default 3).
  public var connectionsPerWorkerMax = 3
  /// With this many calls in flight on every connection another one is opened (default 64).
  public var callsPerConnection = 64
  /// Calls in flight at once, all workers together (default 100,000).
  public var callsInFlightMax = 100_000
  /// Calls of one `map` at once (default 32).
  public var mapConcurrencyMax = 32
  /// Workers of one service that are kept connected while there are more; existing peers call it
  /// `maxActiveKeyDests` (default 5).
  public var activeWorkersMax = 5
  /// How often one call is sent again (default 2).
  public var retriesMax = 2
  /// Retries for each call that is made, all calls of one service together (default 0.1: ten in a hundred).
  public var retryRatio = 0.1
  /// Retries of one service that may be saved up in quiet times, and that a client begins with (default 100).
  public var retryBurstMax = 100
  /// How long a worker that could not be reached is passed over, at first; the time doubles with
  /// each failure up to 30 s (default 250 ms).
  public var sitOutTime = Duration.milliseconds(250)
  /// How long a connection without calls is kept (default 120 s).
  public var idleTimeout = Duration.seconds(120)
  /// What brings the calls to the workers (default WSS); streams always go over HTTPS.
  public var transport = RPCTransport.wss
  /// Connections to one worker over HTTPS, each with one call at a time; more calls wait (default 64).
  public var httpConnectionsPerWorkerMax = 64
  /// Whether calls over HTTPS and their replies are compressed, `grc-compress: gzip` (default not).
  public var compressesHTTP = false
  /// Bytes that a call may have as it is sent, its envelope included (default 1 MiB: what workers take
  /// unless they are told otherwise). A larger one would cost the connection and every call on it.
  public var callBytesMax = 1 << 20
  /// How `Codable` payloads become JSON text, and results come of it.
  public var coding = RPCCoding()
  /// What a reply over HTTPS may hold.
  public var http = HTTPLimits()
  /// What a reply may hold.
  public var webSocket = WebSocketLimits()
  /// Keep-alive and compression of WebSockets (default: no compression).
  public var webSocketOptions = WebSocketOptions.client
  /// Whether workers are offered the extension over WebSockets (`docs/wire-extensions.md`), which existing
  /// ones pass over (default yes): without it they learn neither deadlines and metadata nor that a call was
  /// cancelled, and this side does not learn that a call was not begun.
  public var offersExtension = true
  /// Who may answer for a service, other than by default: its certificate names the service by a
  /// URI `grenache:<service>`; of a worker that a call names by its address, the address by an IP or DNS
  /// name will do as well.
  public var verification: PeerVerification?
  /// Whether workers that a lookup finds may prove themselves by their address alone, for fleets whose
  /// certificates name no services (default `false`). Then everybody with a certificate for an address
  /// of their own (a grape, any other host of the fleet) can answer a lookup with that address and is
  /// sent every call.
  public var acceptsInsecureWorkersByAddress = false

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

  /// A reply from its parts, for tests of code that makes calls.
  public init(
    result: [UInt8], identity: PeerIdentity? = nil, negotiated: TLSNegotiation? = nil,
    worker: Endpoint
  ) {
    self.result = result
    self.identity = identity
    self.negotiated = negotiated
    self.worker = worker
  }

  /// Decodes the result.
  ///
  /// - Parameters:
  ///   - type: what it is to become.
  ///   - coding: how values are read from JSON text.
  /// - Throws: `GrenacheError`: `invalidReply`.
  public func decode<Value: Decodable>(
    _ type: Value.Type = Value.self, coding: RPCCoding = RPCCoding()
  ) throws(GrenacheError) -> Value {
    try coding.decode(type, result)
  }
}

/// Calls services over WSS or HTTPS: finds their workers through a link, chooses one, and keeps connections.
///
/// Of a service's workers some are kept connected, and a call goes to the less busy of two of them.
/// Workers that cannot be reached or cannot prove who they are get no byte of it and are passed over for
/// a while; the next one is tried within the call's deadline. A call that a worker may have carried out
/// is sent again only if its options say that it is idempotent.
public final class PeerRPCClient: Service {
  let link: Link
  let configuration: PeerRPCClientConfiguration
  let core: LoopBound<RPCClientCore>

  /// A client that finds workers through `link` and shares its certificates and its loop.
  public init(
    link: Link, configuration: PeerRPCClientConfiguration = PeerRPCClientConfiguration()
  ) async {
    self.link = link
    self.configuration = configuration
    if configuration.acceptsInsecureWorkersByAddress {
      link.logger.warning(
        "workers are believed by their address: any host with a certificate can answer for a service"
      )
    }
    core = await link.loop.run { loop in
      LoopBound(RPCClientCore(link: link, configuration: configuration), on: loop)
    }
  }

  /// Calls `service` with a `Codable` payload and decodes its result; the rest as in `requestRaw`.
  ///
  /// - Throws: `GrenacheError`.
  public func request<Payload: Encodable, Output: Decodable>(
    _ service: String, _ payload: Payload, as type: Output.Type = Output.self,
    to worker: Endpoint? = nil, within timeout: Duration? = nil,
    options: RPCCallOptions = RPCCallOptions()
  ) async throws(GrenacheError) -> Output {
    let coding = configuration.coding
    let reply = try await requestRaw(
      service, try coding.encode(payload), to: worker, within: timeout, options: options)
    return try reply.decode(type, coding: coding)
  }

  /// Calls `service` with JSON text and returns the reply as it came.
  ///
  /// - Parameters:
  ///   - service: the service to call.
  ///   - payload: one JSON value.
  ///   - worker: the one worker to call; without it, that of `options`. Whoever names an address vouches
  ///     for it: a certificate for that address will do. For one that a lookup has found that is no proof,
  ///     so leave it out, or set `verification` to `.service`.
  ///   - timeout: how long the call may take; without it, the time of `options`.
  ///   - options: where the call differs from the client's configuration.
  /// - Throws: `GrenacheError`; `invalidPayload` when the payload is not one JSON value, or the call is
  ///   larger than `callBytesMax`.
  public func requestRaw(
    _ service: String, _ payload: [UInt8], to worker: Endpoint? = nil,
    within timeout: Duration? = nil, options: RPCCallOptions = RPCCallOptions()
  ) async throws(GrenacheError) -> RPCReply {
    try await requestRaw(
      service, payload, to: worker, isFound: false, within: timeout, options: options)
  }

  /// - Parameter isFound: whether a lookup has found `worker`, so that its address proves nothing.
  func requestRaw(
    _ service: String, _ payload: [UInt8], to worker: Endpoint?, isFound: Bool,
    within timeout: Duration?, options: RPCCallOptions
  ) async throws(GrenacheError) -> RPCReply {
    try Self.check(payload, of: service)
    guard options.hasValidMetadata else {
      throw GrenacheError(
        .invalidPayload, "the metadata of \(service) is more than a call may have")
    }
    var options = options
    if let worker { options.worker = worker }
    let time = timeout ?? options.timeout ?? configuration.callTimeout
    var call = RPCCall(
      service: service, payload: payload, deadline: .now() + time, options: options)
    call.isWorkerFound = isFound
    let core = core
    return try await Self.request(call, core: core, on: core.loop)
  }

  static func check(_ payload: [UInt8], of service: String) throws(GrenacheError) {
    guard !JSONText.isSendable(payload.span) else { return }
    throw GrenacheError(
      .invalidPayload,
      "the payload of \(service) is not one JSON value in UTF-8, at most "
        + "\(JSONScanner.depthMax) levels deep")
  }

  /// Closes the connections, those that are being made as well; calls that have been sent fail with
  /// `connectionLost`, and are not sent again. Calls that come later make connections anew, over WSS and
  /// HTTPS alike.
  public func close() async {
    let core = core
    await core.loop.run { loop in core.get(on: loop).close(on: loop) }
  }

  /// Keeps the link's certificates fresh until a graceful shutdown begins or the task is cancelled, and closes
  /// the connections then: in a `ServiceGroup`, in front of those that make calls, for what is listed last
  /// ends first.
  public func run() async throws {
    await link.withFreshCertificates { try? await gracefulShutdown() }
    await close()
  }

  private static func request(
    _ call: RPCCall, core: LoopBound<RPCClientCore>, on loop: isolated EventLoop
  ) async throws(GrenacheError) -> RPCReply {
    try await core.get(on: loop).request(call, on: loop)
  }
}
