internal import GrenacheAccess
internal import GrenacheDHT
internal import GrenacheFraming
public import GrenacheIO
internal import GrenacheTLS
internal import GrenacheTransport
public import Logging
public import ServiceLifecycle

/// A grape: a node of the DHT with an HTTPS API through which services are announced and looked up.
public final class GrapeNode: Service {
  /// Where a grape listens.
  public struct Addresses: Hashable, Sendable {
    /// The API.
    public var api: SocketAddress
    /// The DHT.
    public var dht: SocketAddress
  }

  private let configuration: GrapeConfiguration
  private let group: EventLoopGroup?
  private let logger: Logger

  /// A grape that listens once it runs.
  public init(
    _ configuration: GrapeConfiguration, group: EventLoopGroup? = nil,
    logger: Logger = Logger(label: "grenache.grape")
  ) {
    self.configuration = configuration
    self.group = group
    self.logger = logger
  }

  /// Runs until the task is cancelled or a graceful shutdown begins.
  public func run() async throws {
    try await run { _ in }
  }

  /// The same, telling `started` where the grape listens.
  public func run(started: @Sendable (Addresses) async -> Void) async throws {
    let context = try configuration.tls.map { try TLSContext($0) }
    if let context {
      context.logInsecureOptions(role: "grape", logger)
      configuration.access?.guardConnections(of: context) { policy, peer in
        policy.allowsSomething([.announce, .lookup, .put], to: peer)
      }
    }
    let group = try group ?? EventLoopGroup.shared()
    let driver = try await makeDriver(on: group.next())
    let dht = await driver.loop.run { loop in driver.get(on: loop).localAddress }
    let api = try await makeServer(context, driver, dhtPort: dht.port, group)
    if context == nil {
      logger.warning("plaintext: anybody may announce anything at \(api.localAddress)")
    }
    logger.info(
      "listening",
      metadata: ["api": "\(api.localAddress)", "dht": "\(dht)", "tls": "\(context != nil)"])
    await started(Addresses(api: api.localAddress, dht: dht))
    let certificates = context.map { context in
      FileReloader(context, role: "grape", logger: logger, report: configuration.tlsReloaded)
    }
    let access = configuration.access.flatMap { FileReloader($0, role: "grape", logger: logger) }
    await FileReloader.runUntilShutdown([certificates, access].compactMap(\.self))
    logger.info("shutting down")
    await api.shutDown(within: .seconds(2))
    await driver.loop.run { loop in driver.get(on: loop).stop(on: loop) }
  }

  private func makeDriver(on loop: EventLoop) async throws -> LoopBound<DHTDriver> {
    guard let address = SocketAddress(ip: configuration.dhtHost, port: configuration.dhtPort) else {
      throw GrapeError("the DHT cannot be bound to \(configuration.dhtHost): not an IP address")
    }
    var dht = DHTConfiguration()
    dht.parallelism = max(1, configuration.lookupParallelism)
    dht.peerAgeMax = configuration.peerAge
    dht.nodeLiveness = configuration.nodeLiveness
    dht.keysMax = configuration.servicesMax
    dht.peersMax = configuration.announcementsMax
    dht.bootstrap = await resolveBootstrap()
    let settings = dht
    do {
      return try await loop.run { loop throws(SystemCallError) in
        let driver = try DHTDriver(settings, bindingTo: address)
        try driver.start(on: loop)
        return LoopBound(driver, on: loop)
      }
    } catch {
      throw GrapeError("the DHT cannot listen: \(error)")
    }
  }

  /// The bootstrap nodes' addresses; a name that cannot be resolved is logged and left out.
  private func resolveBootstrap() async -> [DHTAddress] {
    var addresses: [DHTAddress] = []
    for endpoint in configuration.bootstrap {
      do throws(ResolutionError) {
        let found = try await Resolver.resolve(
          endpoint.host, port: endpoint.port, within: .seconds(2))
        addresses += found.map { DHTAddress($0) }
      } catch {
        logger.warning("bootstrap node left out", metadata: ["reason": "\(error)"])
      }
    }
    return addresses
  }

  private func makeServer(
    _ context: TLSContext?, _ driver: LoopBound<DHTDriver>, dhtPort: UInt16,
    _ group: EventLoopGroup
  ) async throws -> HTTPServer {
    let host = try await resolveHost()
    let isWildcard = host.ip == "::" || host.ip == "0.0.0.0"
    let api = GrapeAPI(
      driver: driver, configuration: configuration, dhtPort: dhtPort,
      ownHost: isWildcard ? nil : host.host, logger: logger)
    var server = HTTPServerConfiguration()
    // One byte past the limit is read, so that the answer can be the API's own.
    server.http.bodyBytesMax = configuration.payloadBytesMax + 1
    server.idleTimeout = .seconds(5)
    return try await HTTPServer(
      on: host, context: context, configuration: server,
      handlers: HTTPServerHandlers(respond: { request in await api.respond(to: request) }),
      group: group, logger: logger)
  }

  private func resolveHost() async throws -> SocketAddress {
    let name = configuration.host ?? "::"
    let found = try await Resolver.resolve(
      name, port: configuration.apiPort, within: .seconds(2))
    guard let first = found.first else { throw GrapeError("\(name) has no address") }
    return first
  }
}

/// A grape cannot start.
public struct GrapeError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Why.
  public var description: String

  init(_ description: String) { self.description = description }
}
