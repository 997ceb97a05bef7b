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
  private let bootstrap: BootstrapNames

  /// A grape that listens once it runs.
  public convenience init(
    _ configuration: GrapeConfiguration, group: EventLoopGroup? = nil,
    logger: Logger = Logger(label: "grenache.grape")
  ) {
    self.init(configuration, resolve: BootstrapNames.system, group: group, logger: logger)
  }

  init(
    _ configuration: GrapeConfiguration, resolve: @escaping BootstrapNames.Resolve,
    group: EventLoopGroup? = nil, logger: Logger
  ) {
    self.configuration = configuration
    self.group = group
    self.logger = logger
    bootstrap = BootstrapNames(configuration.bootstrap, resolve: resolve, logger: logger)
  }

  /// Runs until the task is cancelled or a graceful shutdown begins.
  public func run() async throws {
    try await run { _ in }
  }

  /// The same, telling `started` where the grape listens.
  ///
  /// - Throws: `GrapeError` for a configuration with which a grape cannot, or may not, run;
  ///   `TLSConfigurationError`; `TransportError` `listenFailed` for the API's port.
  public func run(started: @Sendable (Addresses) async -> Void) async throws {
    guard configuration.tls == nil || configuration.access != nil else {
      throw GrapeError(
        "no access policy: over TLS it has to say who may announce; AccessControl() does")
    }
    let context = try configuration.tls.map { try TLSContext($0) }
    if let context {
      context.logInsecureOptions(role: "grape", logger)
      configuration.access?.guardConnections(of: context) { policy, peer in
        policy.allowsSomething([.announce, .lookup, .put], to: peer)
      }
    }
    let places = try await listeningPlaces()
    let group = try group ?? EventLoopGroup.shared()
    let store = try await openStore()
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
        let api = makeAPI(driver, answers, requests, dhtPort: dht.port)
        apis.append(try await makeServer(api, watches, context, at: address, group))
      }
    } catch {
      for api in apis { await api.shutDown(within: .zero) }
      await Self.stop(driver, watches, on: driver.loop)
      throw error
    }
    log(context, apis, dht)
    let reloaders = reloaders(context)
    if let first = apis.first {
      await started(
        Addresses(api: first.localAddress, apis: apis.map(\.localAddress), dht: dht))
    }
    let memory = Self.memory(of: driver)
    await runUntilShutdown(reloaders, store, memory, driver)
    logger.info("shutting down")
    await withTaskGroup { group in
      for api in apis { group.addTask { await api.shutDown(within: .seconds(2)) } }
    }
    // What was acknowledged meanwhile is written, too: a fleet that stops together withdraws now.
    await store?.finish(from: memory)
    await Self.stop(driver, watches, on: driver.loop)
  }

  /// How long a state folder is waited for that somebody else still uses, as when a grape takes over
  /// from one that is about to end.
  private static let stateFolderWait = Duration.seconds(1)

  private func openStore() async throws -> GrapeStore? {
    guard let folder = configuration.stateFolder else { return nil }
    let end = MonotonicTime.now() + Self.stateFolderWait
    while true {
      do {
        return try GrapeStore(folder: folder, logger: logger)
      } catch let error as StateFolder.InUse {
        guard end > .now() else {
          throw GrapeError(
            .stateUnusable, "the state folder \(error.path) is in use by another grape")
        }
        try await Task.sleep(for: .milliseconds(50))
      }
    }
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

  private static func memory(of driver: LoopBound<DHTDriver>) -> GrapeStore.Source {
    GrapeStore.Source(
      take: { isLast in
        await driver.loop.run { driver.get(on: $0).takeMemory(isLast: isLast) }
      },
      giveBack: { memory in
        await driver.loop.run { driver.get(on: $0).giveBack(memory) }
      })
  }

  /// Keeps certificates, policy and bootstrap nodes fresh and writes the state down meanwhile.
  private func runUntilShutdown(
    _ reloaders: [FileReloader], _ store: GrapeStore?, _ memory: GrapeStore.Source,
    _ driver: LoopBound<DHTDriver>
  ) async {
    await withTaskGroup { [bootstrap] group in
      if let store { group.addTask { await store.run(from: memory) } }
      group.addTask { await bootstrap.run(driver) }
      await FileReloader.runUntilShutdown(reloaders)
      group.cancelAll()
    }
  }

  private func reloaders(_ context: TLSContext?) -> [FileReloader] {
    let certificates = context.map { context in
      FileReloader(context, role: "grape", logger: logger, report: configuration.tlsReloaded)
    }
    let access = configuration.access.flatMap { FileReloader($0, role: "grape", logger: logger) }
    return [certificates, access].compactMap(\.self)
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
    guard let address = SocketAddress(ip: configuration.dhtHost, port: configuration.dhtPort),
      case .ipv4 = address.host
    else {
      throw GrapeError(
        "the DHT cannot be bound to \(configuration.dhtHost): not an IPv4 address; those of IPv6 go "
          + "into dhtHostIPv6 (--dht-bind-ipv6)")
    }
    let address6 = try configuration.dhtHostIPv6.map { host in
      guard let address = SocketAddress(ip: host, port: configuration.dhtPort),
        case .ipv6 = address.host
      else { throw GrapeError("the DHT cannot be bound to \(host): not an IPv6 address") }
      return address
    }
    var settings = dhtConfiguration
    settings.bootstrap = bootstrap.addresses
    settings.publicHosts = try publicHosts()
    let dht = settings
    do {
      return try await loop.run { loop throws(SystemCallError) in
        let driver = try DHTDriver(
          dht, bindingTo: address, and: address6, keepsMemory: keepsMemory, remembering: memory)
        try driver.start(on: loop)
        return LoopBound(driver, on: loop)
      }
    } catch {
      throw GrapeError(.cannotListen, "the DHT cannot listen: \(error)")
    }
  }

  var dhtConfiguration: DHTConfiguration {
    var dht = configuration.dht
    dht.parallelism = max(1, configuration.lookupParallelism)
    dht.peerAgeMax = configuration.peerAge
    dht.nodeLiveness = configuration.nodeLiveness
    dht.keysMax = configuration.servicesMax
    dht.peersMax = configuration.announcementsMax
    dht.peersPerAddressMax = configuration.announcementsPerLoopbackAddressMax
    dht.peersPerRemoteAddressMax = configuration.announcementsPerAddressMax
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

  private func publicHosts() throws -> [DHTHost] {
    var hosts: [DHTHost] = []
    for text in configuration.dhtPublicAddresses {
      guard let address = SocketAddress(ip: text, port: 0) else {
        throw GrapeError("the DHT's public address \(text) is not an IP address")
      }
      let host = DHTAddress(address).host
      guard host.isPublic else {
        throw GrapeError("the DHT's public address \(text) is none that others could reach")
      }
      guard !hosts.contains(where: { $0.family == host.family }) else {
        throw GrapeError("the DHT has two public addresses of the same kind, \(text) is the second")
      }
      hosts.append(host)
    }
    return hosts
  }

  private func makeAPI(
    _ driver: LoopBound<DHTDriver>, _ answers: LookupAnswers, _ requests: RequestsInFlight,
    dhtPort: UInt16
  ) -> GrapeAPI {
    GrapeAPI(
      driver: driver, configuration: configuration, dhtPort: dhtPort, answers: answers,
      requests: requests, logger: logger)
  }

  private func makeServer(
    _ api: GrapeAPI, _ watches: LoopBound<GrapeWatches>, _ context: TLSContext?,
    at address: SocketAddress, _ group: EventLoopGroup
  ) async throws -> HTTPServer {
    var server = HTTPServerConfiguration()
    // What is larger is taken as a stream, so that the answer can be the API's own.
    server.http.bodyBytesMax = configuration.payloadBytesMax
    server.idleTimeout = .seconds(5)
    server.allowedOrigins = configuration.allowedOrigins
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
  /// What is in the way; new codes may come.
  public struct Code: Hashable, Sendable, CustomStringConvertible {
    let name: String
    /// The code's name.
    public var description: String { name }

    /// The configuration cannot work, or may not without being confirmed.
    public static let invalidConfiguration = Code(name: "invalidConfiguration")
    /// The state folder, or a file in it, cannot be made, read or taken.
    public static let stateUnusable = Code(name: "stateUnusable")
    /// The DHT cannot listen where it is to.
    public static let cannotListen = Code(name: "cannotListen")
  }

  /// What is in the way.
  public var code: Code
  /// Why.
  public var description: String

  init(_ code: Code, _ description: String) {
    self.code = code
    self.description = description
  }

  /// Of a configuration.
  init(_ description: String) { self.init(.invalidConfiguration, description) }
}
