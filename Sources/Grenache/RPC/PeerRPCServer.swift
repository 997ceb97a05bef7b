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
  /// The address to listen on (default: all addresses, IPv4 and IPv6).
  public var host = "::"
  /// The port; 0 lets the kernel choose.
  public var port: UInt16
  /// Limits of connections, requests and messages.
  public var transport = HTTPServerConfiguration()
  /// Calls that one connection may have in flight; with more it is not read from (default 100).
  public var callsInFlightMax = 100
  /// How long a shutdown waits for calls that are being answered (default 30 s).
  public var drainDeadline = Duration.seconds(30)
  /// Who may call what (default: whoever the roots vouch for may call everything); `nil` only
  /// through `insecurePlaintext`, where anybody may.
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
  }

  /// No TLS at all: anybody may call, and everybody on the way reads and changes what is said. For
  /// networks of existing plaintext peers only.
  public static func insecurePlaintext(port: UInt16) -> PeerRPCServerConfiguration {
    PeerRPCServerConfiguration(plaintextPort: port)
  }
}

/// Answers calls of its services over WSS and announces them while it runs.
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
  public func run(started: @Sendable (SocketAddress) async -> Void) async throws {
    let context = try configuration.tls.map { try TLSContext($0) }
    if let context { guardConnections(of: context) }
    let server = try await listen(context)
    await started(server.localAddress)
    let port = server.localAddress.port
    await withTaskGroup { group in
      for name in link == nil ? [] : services.names {
        group.addTask { [link] in await link?.keepAnnouncing(name, port: port) }
      }
      group.addTask { [reloaders = reloaders(context)] in
        await FileReloader.runUntilShutdown(reloaders)
      }
      // Announcing never ends by itself: the first to end is the wait, or all are cancelled.
      await group.next()
      group.cancelAll()
    }
    logger.info("shutting down", metadata: ["port": "\(port)"])
    await server.shutDown(within: configuration.drainDeadline)
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
    let limits = RPCConnectionLimits(callsInFlightMax: max(1, configuration.callsInFlightMax))
    let server = try await HTTPServer(
      on: address, context: context, configuration: configuration.transport,
      handlers: HTTPServerHandlers(
        respond: { _ in HTTPServerResponse(.upgradeRequired) },
        openWebSocket: { [services, logger, access = configuration.access] request, loop in
          RPCServerConnection(
            services: services, access: access, limits: limits, logger: logger, on: loop)
        }),
      group: try group ?? EventLoopGroup.shared(), logger: logger)
    if context == nil {
      logger.warning("plaintext: callers do not prove who they are")
    }
    logger.info(
      "listening",
      metadata: [
        "address": "\(server.localAddress)", "services": "\(services.names)",
        "tls": "\(context != nil)",
      ])
    return server
  }

}

/// The services of a server, found by the bytes of their names.
struct RPCServiceTable: Sendable {
  private struct Entry {
    let name: [UInt8]
    let service: RPCService
  }
  private let entries: [Entry]
  private let index: [String: Int]
  /// Up to this many names, comparing bytes beats making a string and hashing it.
  private static let scanMax = 8

  init(_ services: [RPCService]) {
    entries = services.map { Entry(name: Array($0.name.utf8), service: $0) }
    var index: [String: Int] = [:]
    for (position, service) in services.enumerated() { index[service.name] = position }
    self.index = index
  }

  var names: [String] { entries.map(\.service.name) }

  /// The service that the key of `envelope` names.
  @inline(__always)
  func service(for envelope: RPCRequestEnvelope, in bytes: Span<UInt8>) -> RPCService? {
    if let range = envelope.key, !envelope.keyHasEscapes, entries.count <= Self.scanMax {
      let key = bytes.extracting(range)
      for entry in entries where entry.name.span.equals(key) { return entry.service }
      return nil
    }
    guard let name = envelope.keyString(in: bytes), let position = index[name] else { return nil }
    return entries[position].service
  }
}
