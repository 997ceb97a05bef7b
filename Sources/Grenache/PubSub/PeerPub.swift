public import GrenacheAccess
internal import GrenacheFraming
public import GrenacheIO
public import GrenacheTLS
public import GrenacheTransport
public import Logging
internal import Metrics
public import ServiceLifecycle

/// Where a publisher listens, and its limits.
public struct PeerPubConfiguration: Sendable {
  /// The certificates; `nil` only through `insecurePlaintext`.
  public var tls: TLSConfiguration?
  /// The address to listen on (default: all addresses, IPv4 and IPv6 where there is any; with `insecurePlaintext`, IPv4's
  /// loopback).
  public var host = "::"
  /// The port; 0 lets the kernel choose.
  public var port: UInt16
  /// Whether subscribers that present no certificate may subscribe, where
  /// `TLSConfiguration.clientCertificates` does not require one and a rule allows anyone to subscribe to every
  /// key. The connection is encrypted, and nobody knows who listens (default: no).
  public var acceptsInsecureAnonymousSubscribers = false
  /// Confirms that plaintext may be listened for beyond loopback, where everybody who reaches the port may
  /// use it (default: no; such an address is refused then).
  public var allowsInsecurePlaintextOnTheNetwork = false
  /// Limits of connections.
  public var transport = HTTPServerConfiguration()
  /// Messages that may wait for one subscriber (default 1,024).
  public var queueMessagesMax = 1_024
  /// Bytes that may wait for one subscriber, and the most that one message may have (default 384 KiB).
  /// 128 KiB and one message more may be on their way: by default a subscriber holds 896 KiB at most, beside
  /// what the kernel holds (`sendBufferBytes`).
  public var queueBytesMax = 384 << 10
  /// Bytes that the kernel may hold for one subscriber of what that has not confirmed, and as much again
  /// for its own accounts (default 256 KiB): what waits longer than a round trip waits in the queue, whose
  /// limits and policy count. It is also what one round trip may carry; `nil` for what the system thinks
  /// fit, which for a subscriber that stalls can be megabytes.
  public var sendBufferBytes: Int? = 256 << 10
  /// What happens to a subscriber that does not keep up (default: the oldest messages are given up).
  public var slowSubscribers = SlowSubscriberPolicy.dropOldest
  /// Messages that are kept for subscribers that come back (default 256).
  public var replayMessagesMax = 256
  /// Bytes that are kept for them (default 1 MiB).
  public var replayBytesMax = 1 << 20
  /// Topics that one subscriber may ask for (default 64).
  public var topicsMax = 64
  /// How long a subscriber that speaks the extension may take to say what it wants (default 10 s).
  public var openingTimeout = Duration.seconds(10)
  /// How long a shutdown waits for subscribers to take what waits for them (default 5 s).
  public var drainTimeout = Duration.seconds(5)
  /// Who may subscribe (default: whoever the roots vouch for); `nil` only through `insecurePlaintext`: over
  /// TLS it is refused.
  public var access: AccessControl? = AccessControl()
  /// Told when certificates have been loaded again, or could not be.
  public var tlsReloaded: (@Sendable (TLSReloadOutcome) -> Void)?

  /// Bytes that may be on their way to one subscriber beside its queue.
  static let outputHighWaterBytes = 128 << 10

  /// Mutual TLS: subscribers prove who they are.
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

  /// No TLS at all: anybody may subscribe, and everybody on the way reads and changes what is said. For
  /// networks of existing plaintext peers only.
  public static func insecurePlaintext(port: UInt16) -> PeerPubConfiguration {
    PeerPubConfiguration(plaintextPort: port)
  }
}

/// Publishes messages under a key to whoever subscribes, and announces the key while it runs.
///
///     let pub = try await PeerPub("prices", configuration, link: link)
///     async let running: Void = pub.run()
///     try await pub.publish(PubMessage("42"))
///
/// A subscriber that does not keep up loses messages, as its queue's limit and the policy say, and is
/// told which; the others do not notice.
public final class PeerPub: Service {
  /// The key under which subscribers find it.
  public let key: String

  private let configuration: PeerPubConfiguration
  private let link: Link?
  private let logger: Logger
  private let shards: [LoopBound<PubShard>]
  private let group: EventLoopGroup
  private let audience: PubAudience

  /// A publisher of `key`; with a link, it is announced while it runs. Without a group it has a loop of
  /// its own.
  ///
  /// - Throws: `SystemCallError` when there is no loop to be had.
  public init(
    _ key: String, _ configuration: PeerPubConfiguration, link: Link? = nil,
    group: EventLoopGroup? = nil, logger: Logger = Logger(label: "grenache.pub")
  ) async throws {
    self.key = key
    self.configuration = configuration
    self.link = link
    self.logger = logger
    let group = try group ?? EventLoopGroup(count: 1, name: "grenache-pub")
    self.group = group
    let epoch = UUIDText.random()
    var shards: [LoopBound<PubShard>] = []
    let audience = PubAudience()
    self.audience = audience
    for loop in group.loops {
      shards.append(
        await loop.run { loop in
          LoopBound(
            PubShard(
              key: key, epoch: epoch, configuration, audience: audience, logger: logger), on: loop)
        })
    }
    self.shards = shards
  }

  /// Sends a message to every subscriber of its topic. It returns when the message is in their queues,
  /// which may have given up others for it.
  ///
  /// Messages of one caller, one after the other, come in their order. Without subscribers a message is
  /// only kept for those that come back.
  ///
  /// - Throws: `GrenacheError`: `invalidPayload` for a topic of more than `PubMessage.topicBytesMax`
  ///   bytes, and for a message that would have more than `queueBytesMax` as subscribers get it: it would
  ///   reach nobody; `shuttingDown` once `run` ends, since subscribers are told then that they have heard
  ///   everything.
  public func publish(_ message: PubMessage) async throws(GrenacheError) {
    guard PubMessage.isTopic(message.topic ?? "") else {
      throw GrenacheError(.invalidPayload, "a topic of more than \(PubMessage.topicBytesMax) bytes")
    }
    guard PubWire.fits(message, bytesMax: configuration.queueBytesMax) else {
      throw GrenacheError(
        .invalidPayload, "a message of more than \(configuration.queueBytesMax) bytes")
    }
    for shard in shards {
      let result = await shard.loop.run { loop in
        Result { () throws(GrenacheError) in
          try shard.get(on: loop).publish(message, on: loop)
        }
      }
      try result.get()
    }
  }

  /// The subscribers that are connected.
  public var subscriberCount: Int {
    get async { audience.count }
  }

  /// Waits until so many subscribers are connected at the same time, or until the task is cancelled.
  public func waitForSubscribers(_ count: Int) async {
    await audience.wait(for: count)
  }

  /// Messages that subscribers did not get because they did not keep up.
  public var droppedCount: Int {
    get async {
      var count = 0
      for shard in shards {
        count += await shard.loop.run { loop in shard.get(on: loop).dropped }
      }
      return count
    }
  }

  /// The names of its runs as subscribers hear them, one for each loop.
  package var runs: [String] {
    get async {
      var names: [String] = []
      for shard in shards {
        names.append(await shard.loop.run { loop in shard.get(on: loop).epoch })
      }
      return names
    }
  }

  /// The bytes that are held for the subscriber that is furthest behind.
  package var heldBytesMax: Int {
    get async {
      var most = 0
      for shard in shards {
        most = max(most, await shard.loop.run { loop in shard.get(on: loop).heldBytesMax })
      }
      return most
    }
  }

  /// Breaks the connections off, for tests of what subscribers make of it.
  package func abortSubscribers() async {
    for shard in shards {
      await shard.loop.run { loop in shard.get(on: loop).abort(on: loop) }
    }
  }

  /// Listens and announces until the task is cancelled or a graceful shutdown begins.
  public func run() async throws {
    try await run { _ in }
  }

  /// The same, telling `started` the address that the publisher listens on.
  ///
  /// - Throws: `GrenacheError` `invalidConfiguration`; `TLSConfigurationError`; `TransportError`
  ///   `listenFailed`.
  public func run(started: @Sendable (SocketAddress) async -> Void) async throws {
    guard configuration.tls == nil || configuration.access != nil else {
      throw GrenacheError.noPolicy
    }
    let context = try configuration.tls.map { try TLSContext($0) }
    if let context {
      context.logInsecureOptions(role: "publisher", logger)
      configuration.access?.guardConnections(of: context) { [key] policy, peer in
        policy.decide(.subscribe, on: key, by: peer).isAllowed
      }
    }
    for shard in shards { await shard.loop.run { loop in shard.get(on: loop).begin() } }
    let server = try await listen(context)
    let reloaders = reloaders(context)
    await started(server.localAddress)
    let port = server.localAddress.port
    await withTaskGroup { group in
      if let link {
        group.addTask { [key] in await link.keepAnnouncing(key, port: port) }
      }
      group.addTask { await FileReloader.runUntilShutdown(reloaders) }
      // Announcing never ends by itself: the first to end is the wait, or all are cancelled.
      await group.next()
      group.cancelAll()
    }
    logger.info("shutting down", metadata: ["key": "\(key)", "port": "\(port)"])
    await link?.withdrawQuietly([key], port: port)
    for shard in shards { await shard.loop.run { loop in shard.get(on: loop).end() } }
    await server.shutDown(within: configuration.drainTimeout)
  }

  private func reloaders(_ context: TLSContext?) -> [FileReloader] {
    let certificates = context.map { context in
      FileReloader(context, role: "publisher", logger: logger, report: configuration.tlsReloaded)
    }
    let access = configuration.access.flatMap {
      FileReloader($0, role: "publisher", logger: logger)
    }
    return [certificates, access, link?.certificateReloader].compactMap(\.self)
  }

  /// Whether the policy allows a peer to subscribe, counted and logged where it does not.
  private func admission() -> (@Sendable (HTTPServerRequest) -> Bool)? {
    guard let access = configuration.access else { return nil }
    let (key, denials, logger) = (key, DenialLog(), logger)
    let admitsAnonymous = configuration.acceptsInsecureAnonymousSubscribers
    return { request in
      if admitsAnonymous, request.identity == nil, access.policy.isOpen(.subscribe) { return true }
      if access.decide(.subscribe, on: key, by: request.identity).isAllowed { return true }
      Counter(label: "grenache_denials_total", dimensions: [("right", "subscribe")]).increment()
      denials.log(.subscribe, on: key, by: request.identity, at: request.remoteAddress, logger)
      return false
    }
  }

  private func listen(_ context: TLSContext?) async throws -> HTTPServer {
    guard let address = SocketAddress(ip: configuration.host, port: configuration.port) else {
      throw GrenacheError(
        .invalidConfiguration, "the host to listen on must be an IP address: \(configuration.host)")
    }
    if context == nil,
      let refusal = InsecurePlaintext.refusal(
        at: address, isConfirmed: configuration.allowsInsecurePlaintextOnTheNetwork)
    {
      throw GrenacheError(.invalidConfiguration, refusal)
    }
    var transport = configuration.transport
    transport.webSocketOptions.subprotocols = [PubWire.subprotocol]
    transport.stream.outputHighWaterBytes = PeerPubConfiguration.outputHighWaterBytes
    transport.stream.outputLowWaterBytes = PeerPubConfiguration.outputHighWaterBytes / 4
    transport.stream.sendBufferBytes = configuration.sendBufferBytes
    let shards = shards
    var handlers = HTTPServerHandlers(
      respond: { _ in HTTPServerResponse(.upgradeRequired) },
      openWebSocket: { _, loop in
        let shard = shards.first { $0.loop === loop }
        return shard.map { Subscriber($0.get(on: loop), on: loop) }
      })
    handlers.admitsToWebSocket = admission()
    let server = try await HTTPServer(
      on: address, context: context, configuration: transport, handlers: handlers, group: group,
      logger: logger)
    if context == nil {
      logger.warning("plaintext: subscribers do not prove who they are")
    } else if configuration.acceptsInsecureAnonymousSubscribers {
      logger.warning(
        "subscribers without a certificate are admitted, and do not prove who they are")
    }
    logger.info("listening", metadata: ["address": "\(server.localAddress)", "key": "\(key)"])
    return server
  }
}
