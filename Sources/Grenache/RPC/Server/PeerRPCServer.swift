public import GrenacheAccess
internal import GrenacheFraming
public import GrenacheIO
public import GrenacheTLS
public import GrenacheTransport
public import Logging
public import ServiceLifecycle

/// Where a server listens, and its limits.
public struct PeerRPCServerConfiguration: Sendable {
  /// The certificates; `nil` only through `insecurePlaintext`.
  public var tls: TLSConfiguration?
  /// The address to listen on (default: all addresses, IPv4 and IPv6 where there is any; with `insecurePlaintext`, IPv4's
  /// loopback).
  public var host = "::"
  /// The port; 0 lets the kernel choose.
  public var port: UInt16
  /// Limits of connections, requests and messages.
  public var transport = HTTPServerConfiguration()
  /// Calls that one connection may have in flight; more wait (default 100). One that was cancelled counts
  /// until its handler has ended. While a peer does not take its replies and more than 1 MiB of them
  /// waits, none is begun: that and the replies to calls begun before are all that may wait for it.
  public var callsPerConnectionMax = 100
  /// Calls of one connection that may wait beside those in flight (default 1,000). With as many a
  /// connection is not read from; a peer that speaks the extension is answered `ERR_OVERLOADED` instead.
  public var callsWaitingMax = 1_000
  /// Bytes that those may have, as they were sent, before the connection is not read from, so that pings
  /// and cancellations wait as well (default 1 MiB).
  public var callsWaitingBytesMax = 1 << 20
  /// Bytes that the identifier of a call over a WebSocket may have, as JSON (default 1 KiB; existing
  /// callers send 38). In place of carrying out a call with a longer one, it is answered with an error.
  public var identifierBytesMax = 1 << 10
  /// Bytes that a reply may have as it is sent, its envelope included (default 1 MiB: what callers take
  /// unless they are told otherwise). In place of a larger one, which would cost the connection and every
  /// call on it, the caller gets an error.
  public var replyBytesMax = 1 << 20
  /// How long a shutdown waits for calls that are being answered, from its beginning (default 30 s): what
  /// withdrawing the services takes, 2 s at most, is part of it.
  public var drainTimeout = Duration.seconds(30)
  /// Whether callers without TLS are answered on the same port, told apart by their first byte: for
  /// the time in which a network moves from plaintext to TLS. They may call every service where a rule
  /// of the access policy allows calls of every key, the keys being `*` alone, to anyone, as it is
  /// without a policy of its own; else none, since a rule for some keys is about whom the roots vouch for.
  /// Everybody on the way reads and changes what is said. Beyond loopback it wants
  /// `allowsInsecurePlaintextOnTheNetwork`.
  public var acceptsInsecurePlaintextBesideTLS = false
  /// Whether callers that present no certificate may call, where `TLSConfiguration.clientCertificates` does not
  /// require one: as those without TLS, every service where a rule allows calls of every key to anyone. The
  /// connection is encrypted, and nobody knows who calls (default: no, they may call nothing).
  public var acceptsInsecureAnonymousCallers = false
  /// Confirms that plaintext may be listened for beyond loopback, where everybody who reaches the port may
  /// use it (default: no; such an address is refused then).
  public var allowsInsecurePlaintextOnTheNetwork = false
  /// Who may call what (default: whoever the roots vouch for may call everything); `nil` only
  /// through `insecurePlaintext`, where anybody may: over TLS it is refused. Who presents no certificate may
  /// call nothing over TLS, unless `acceptsInsecureAnonymousCallers` says so.
  public var access: AccessControl? = AccessControl()
  /// Told when certificates have been loaded again, or could not be.
  public var tlsReloaded: (@Sendable (TLSReloadOutcome) -> Void)?

  /// Mutual TLS: callers prove who they are.
  public init(port: UInt16, tls: TLSConfiguration) {
    self.port = port
    self.tls = tls
  }

  private init(plaintextPort: UInt16) {
    port = plaintextPort
    tls = nil
    access = nil
    host = "127.0.0.1"
  }

  /// No TLS at all: anybody may call, and everybody on the way reads and changes what is said. For
  /// networks of existing plaintext peers only.
  public static func insecurePlaintext(port: UInt16) -> PeerRPCServerConfiguration {
    PeerRPCServerConfiguration(plaintextPort: port)
  }
}

/// Answers calls of its services over WSS and HTTPS, on one port, and announces them while it runs.
///
///     let server = PeerRPCServer(configuration, services: [hello], link: link)
///     try await server.run()
public final class PeerRPCServer: Service {
  private let configuration: PeerRPCServerConfiguration
  private let services: RPCServiceTable
  private let link: Link?
  private let group: EventLoopGroup?
  private let logger: Logger

  /// A server of `services`; with a link, they are announced while the server runs.
  public init(
    _ configuration: PeerRPCServerConfiguration, services: [RPCService], link: Link? = nil,
    group: EventLoopGroup? = nil, logger: Logger = Logger(label: "grenache.server")
  ) {
    self.configuration = configuration
    self.services = RPCServiceTable(services)
    self.link = link
    self.group = group
    self.logger = logger
  }

  /// Listens, announces and answers until the task is cancelled or a graceful shutdown begins, then
  /// closes the connections in order.
  public func run() async throws {
    try await run { _ in }
  }

  /// The same, telling `started` the address that the server listens on.
  ///
  /// - Throws: `GrenacheError` `invalidConfiguration`, also when two services have one name;
  ///   `TLSConfigurationError`; `TransportError` `listenFailed`; `SystemCallError` without a loop.
  public func run(started: @Sendable (SocketAddress) async -> Void) async throws {
    if let name = services.doubledName {
      throw GrenacheError(
        .invalidConfiguration,
        "two services are called \(name); one RPCService may take both calls and streams")
    }
    guard configuration.tls == nil || configuration.access != nil else {
      throw GrenacheError.noPolicy
    }
    let context = try configuration.tls.map { try TLSContext($0) }
    if let context { guardConnections(of: context) }
    let server = try await listen(context)
    let reloaders = reloaders(context)
    await started(server.localAddress)
    let port = server.localAddress.port
    await withTaskGroup { group in
      for name in link == nil ? [] : services.names {
        group.addTask { [link] in await link?.keepAnnouncing(name, port: port) }
      }
      group.addTask { await FileReloader.runUntilShutdown(reloaders) }
      // Announcing never ends by itself: the first to end is the wait, or all are cancelled.
      await group.next()
      group.cancelAll()
    }
    logger.info("shutting down", metadata: ["port": "\(port)"])
    let withdrawing = await ContinuousClock().measure {
      await link?.withdrawQuietly(services.names, port: port)
    }
    await server.shutDown(within: max(.zero, configuration.drainTimeout - withdrawing))
  }

  /// Closes the connections of callers that may call none of the services any more.
  private func guardConnections(of context: TLSContext) {
    context.logInsecureOptions(role: "server", logger)
    configuration.access?.guardConnections(of: context) { [names = services.names] policy, peer in
      names.contains { policy.decide(.call, on: $0, by: peer).isAllowed }
    }
  }

  /// What keeps this server's and its link's files fresh.
  private func reloaders(_ context: TLSContext?) -> [FileReloader] {
    let certificates = context.map { context in
      FileReloader(context, role: "server", logger: logger, report: configuration.tlsReloaded)
    }
    let access = configuration.access.flatMap { FileReloader($0, role: "server", logger: logger) }
    return [certificates, access, link?.certificateReloader].compactMap(\.self)
  }

  private func listen(_ context: TLSContext?) async throws -> HTTPServer {
    guard let address = SocketAddress(ip: configuration.host, port: configuration.port) else {
      throw GrenacheError(
        .invalidConfiguration, "the host to listen on must be an IP address: \(configuration.host)")
    }
    if context == nil || configuration.acceptsInsecurePlaintextBesideTLS,
      let refusal = InsecurePlaintext.refusal(
        at: address, isConfirmed: configuration.allowsInsecurePlaintextOnTheNetwork)
    {
      throw GrenacheError(.invalidConfiguration, refusal)
    }
    var transport = configuration.transport
    transport.webSocketOptions.subprotocols = [RPCCallContext.subprotocol]
    transport.acceptsInsecurePlaintextBesideTLS = configuration.acceptsInsecurePlaintextBesideTLS
    let server = try await HTTPServer(
      on: address, context: context, configuration: transport,
      handlers: handlers(
        RPCConnectionLimits(
          callsInFlightMax: max(1, configuration.callsPerConnectionMax),
          callsWaitingMax: max(1, configuration.callsWaitingMax),
          callsWaitingBytesMax: max(1, configuration.callsWaitingBytesMax),
          identifierBytesMax: configuration.identifierBytesMax,
          replyBytesMax: configuration.replyBytesMax)),
      group: try group ?? EventLoopGroup.shared(), logger: logger)
    if context == nil {
      logger.warning("plaintext: callers do not prove who they are")
    } else if configuration.acceptsInsecurePlaintextBesideTLS {
      logger.warning("plaintext beside TLS: callers without TLS do not prove who they are")
    } else if configuration.acceptsInsecureAnonymousCallers {
      logger.warning("callers without a certificate are answered, and do not prove who they are")
    }
    logger.info(
      "listening",
      metadata: [
        "address": "\(server.localAddress)", "services": "\(services.names)",
        "tls": "\(context != nil)",
      ])
    return server
  }

  /// One port, and the same services whichever protocol a caller speaks.
  private func handlers(_ limits: RPCConnectionLimits) -> HTTPServerHandlers {
    let dispatcher = RPCDispatcher(
      services: services, access: configuration.access,
      admitsAnonymous: configuration.acceptsInsecurePlaintextBesideTLS
        || configuration.acceptsInsecureAnonymousCallers, logger: logger)
    let responder = RPCHTTPResponder(
      dispatcher: dispatcher, bodyBytesMax: configuration.transport.http.bodyBytesMax,
      replyBytesMax: configuration.replyBytesMax)
    var handlers = HTTPServerHandlers(
      respond: { request in await responder.respond(to: request) },
      openWebSocket: { _, loop in RPCServerConnection(dispatcher, limits: limits, on: loop) })
    handlers.cancellationField = RPCCallContext.timeoutField
    if services.hasStreams {
      handlers.stream = { request in responder.streamHandler(for: request) }
    }
    return handlers
  }
}
