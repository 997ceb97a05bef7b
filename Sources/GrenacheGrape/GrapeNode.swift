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
    /// Every address that the API listens on, that one first.
    public var apis: [SocketAddress]
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
    let places = try await listeningPlaces()
    let group = try group ?? EventLoopGroup.shared()
    let store = try configuration.stateFolder.map { try GrapeStore(folder: $0, logger: logger) }
    let driver = try await makeDriver(
      keepsMemory: store != nil, remembering: try await store?.load(), on: group.next())
    let dht = await driver.loop.run { loop in driver.get(on: loop).localAddress }
    let answers = LookupAnswers()
    let requests = RequestsInFlight(
      max: configuration.requestsMax, perCallerMax: configuration.requestsPerCallerMax)
    let watches = await Self.makeWatches(driver, answers)
    var apis: [HTTPServer] = []
    do {
      for address in places {
        let api = makeAPI(driver, answers, requests, dhtPort: dht.port, at: address)
        apis.append(try await makeServer(api, watches, context, at: address, group))
      }
    } catch {
      for api in apis { await api.shutDown(within: .zero) }
      await Self.stop(driver, watches, on: driver.loop)
      throw error
    }
    log(context, apis, dht)
    if let first = apis.first {
      await started(
        Addresses(api: first.localAddress, apis: apis.map(\.localAddress), dht: dht))
    }
    await runUntilShutdown(context, store, driver)
    logger.info("shutting down")
    for api in apis { await api.shutDown(within: .seconds(2)) }
    await Self.stop(driver, watches, on: driver.loop)
  }

  /// Where the API listens.
  ///
  /// - Throws: `GrapeError` when anything would be in the clear beyond loopback without being confirmed,
  ///   the DHT included.
  private func listeningPlaces() async throws -> [SocketAddress] {
    var places: [SocketAddress] = []
    for (host, port) in [(configuration.host ?? "::", configuration.apiPort)]
      + configuration.additionalListeners
    {
      places.append(try await resolve(host, port))
    }
    guard configuration.tls == nil else { return places }
    let dht = [configuration.dhtHost, configuration.dhtHostIPv6].compactMap(\.self)
      .compactMap { SocketAddress(ip: $0, port: configuration.dhtPort) }
    for address in places + dht {
      let refusal = InsecurePlaintext.refusal(
        at: address, isConfirmed: configuration.allowsInsecurePlaintextOnTheNetwork)
      if let refusal { throw GrapeError(refusal) }
    }
    return places
  }

  private func log(_ context: TLSContext?, _ apis: [HTTPServer], _ dht: SocketAddress) {
    let listening = apis.map { "\($0.localAddress)" }.joined(separator: " ")
    if context == nil {
      logger.warning("plaintext: anybody may announce anything at \(listening)")
    }
    logger.info(
      "listening",
      metadata: ["api": "\(listening)", "dht": "\(dht)", "tls": "\(context != nil)"])
  }

  /// Keeps certificates and policy fresh and writes the state down meanwhile, and once more at the end.
  private func runUntilShutdown(
    _ context: TLSContext?, _ store: GrapeStore?, _ driver: LoopBound<DHTDriver>
  ) async {
    let certificates = context.map { context in
      FileReloader(context, role: "grape", logger: logger, report: configuration.tlsReloaded)
    }
    let access = configuration.access.flatMap { FileReloader($0, role: "grape", logger: logger) }
    await withTaskGroup { [logger] group in
      if let store {
        group.addTask {
          await store.run(
            taking: { isLast in
              await driver.loop.run { driver.get(on: $0).takeMemory(isLast: isLast) }
            },
            givingBack: { memory in
              await driver.loop.run { driver.get(on: $0).giveBack(memory) }
            }, logger: logger)
        }
      }
      await FileReloader.runUntilShutdown([certificates, access].compactMap(\.self))
      group.cancelAll()
    }
  }

  private static func makeWatches(
    _ driver: LoopBound<DHTDriver>, _ answers: LookupAnswers
  ) async -> LoopBound<GrapeWatches> {
    await driver.loop.run { loop in
      let watches = GrapeWatches(driver.get(on: loop), answers)
      return LoopBound(watches, on: loop)
    }
  }

  private static func stop(
    _ driver: LoopBound<DHTDriver>, _ watches: LoopBound<GrapeWatches>,
    on loop: isolated EventLoop
  ) {
    watches.get(on: loop).stop(on: loop)
    driver.get(on: loop).stop(on: loop)
  }

  private func makeDriver(
    keepsMemory: Bool, remembering memory: GrapeMemory?, on loop: EventLoop
  ) async throws -> LoopBound<DHTDriver> {
    guard let address = SocketAddress(ip: configuration.dhtHost, port: configuration.dhtPort) else {
      throw GrapeError("the DHT cannot be bound to \(configuration.dhtHost): not an IP address")
    }
    let address6 = try configuration.dhtHostIPv6.map { host in
      guard let address = SocketAddress(ip: host, port: configuration.dhtPort),
        case .ipv6 = address.host
      else { throw GrapeError("the DHT cannot be bound to \(host): not an IPv6 address") }
      return address
    }
    var settings = dhtConfiguration
    settings.bootstrap = await resolveBootstrap()
    let dht = settings
    do {
      return try await loop.run { loop throws(SystemCallError) in
        let driver = try DHTDriver(
          dht, bindingTo: address, and: address6, keepsMemory: keepsMemory, remembering: memory)
        try driver.start(on: loop)
        return LoopBound(driver, on: loop)
      }
    } catch {
      throw GrapeError("the DHT cannot listen: \(error)")
    }
  }

  private var dhtConfiguration: DHTConfiguration {
    var dht = configuration.dht
    dht.parallelism = max(1, configuration.lookupParallelism)
    dht.peerAgeMax = configuration.peerAge
    dht.nodeLiveness = configuration.nodeLiveness
    dht.keysMax = configuration.servicesMax
    dht.peersMax = configuration.announcementsMax
    dht.peersPerAddressMax = configuration.announcementsPerAddressMax
    dht.peersPerRemoteAddressMax = configuration.announcementsPerRemoteAddressMax
    dht.peersPerPrefixMax = configuration.announcementsPerNetworkMax
    dht.peersPerContactMax = configuration.announcementsPerContactMax
    dht.peersPerCallerMax = configuration.announcementsPerCallerMax
    dht.itemsMax = configuration.valuesMax
    dht.itemsPerCallerMax = configuration.valuesPerCallerMax
    dht.limitsLocalPrefixes = !configuration.sharesPrivateNetwork
    dht.checksNodeIDs = !configuration.acceptsAnyNodeIdentifier
    dht.isReadOnly = configuration.isReadOnly
    if configuration.dhtHostIPv6 != nil { dht.families = [.ipv4, .ipv6] }
    return dht
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

  private func makeAPI(
    _ driver: LoopBound<DHTDriver>, _ answers: LookupAnswers, _ requests: RequestsInFlight,
    dhtPort: UInt16, at address: SocketAddress
  ) -> GrapeAPI {
    let isWildcard = address.ip == "::" || address.ip == "0.0.0.0"
    return GrapeAPI(
      driver: driver, configuration: configuration, dhtPort: dhtPort,
      ownHost: isWildcard ? nil : address.unmapped.host, answers: answers,
      requests: requests, logger: logger)
  }

  private func makeServer(
    _ api: GrapeAPI, _ watches: LoopBound<GrapeWatches>, _ context: TLSContext?,
    at address: SocketAddress, _ group: EventLoopGroup
  ) async throws -> HTTPServer {
    var server = HTTPServerConfiguration()
    // One byte past the limit is read, so that the answer can be the API's own.
    server.http.bodyBytesMax = configuration.payloadBytesMax + 1
    server.idleTimeout = .seconds(5)
    server.webSocket.messageBytesMax = configuration.payloadBytesMax
    return try await HTTPServer(
      on: address, context: context, configuration: server,
      handlers: HTTPServerHandlers(
        respond: { request in await api.respond(to: request) },
        stream: { request in api.streamHandler(for: request) },
        openWebSocket: { request, _ in
          // Grenache's clients know no other path than /ws.
          ["/watch", "/ws"].contains(request.target) ? GrapeWatch(api, watches, request) : nil
        }),
      group: group, logger: logger)
  }

  private func resolve(_ name: String, _ port: UInt16) async throws -> SocketAddress {
    let found = try await Resolver.resolve(name, port: port, within: .seconds(2))
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
