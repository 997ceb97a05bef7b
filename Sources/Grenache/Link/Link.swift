internal import GrenacheFraming
public import GrenacheIO
package import GrenacheTLS
public import GrenacheTransport
public import Logging
public import ServiceLifecycle

/// The connection of a service or a client to the grapes: looks services up and announces them.
///
/// A link lives on one event loop and keeps its connections to the grapes open. Lookups are cached,
/// and callers that ask for the same service at the same time share one request.
public final class Link: Service {
  /// How the link was set up.
  public let configuration: LinkConfiguration

  package let loop: EventLoop
  package let context: TLSContext?
  package let logger: Logger
  let core: LoopBound<LinkCore>

  /// Validates the certificates and prepares the link; connections are made when they are needed.
  ///
  /// - Throws: `TLSConfigurationError` with every fault found; `GrenacheError` `invalidConfiguration` without
  ///   grapes, or without certificates that were not left out by `insecurePlaintext`; `SystemCallError`
  ///   without a loop.
  public init(
    _ configuration: LinkConfiguration, group: EventLoopGroup? = nil,
    logger: Logger = Logger(label: "grenache.link")
  ) async throws {
    guard !configuration.grapes.isEmpty else {
      throw GrenacheError(.invalidConfiguration, "a link needs the address of at least one grape")
    }
    guard configuration.tls != nil || configuration.isInsecurePlaintext else {
      throw GrenacheError(
        .invalidConfiguration,
        "a link needs certificates; in the clear only by LinkConfiguration.insecurePlaintext")
    }
    let context = try configuration.tls.map { try TLSContext($0) }
    self.configuration = configuration
    self.context = context
    self.logger = logger
    if context == nil {
      logger.warning("plaintext: neither grapes nor workers prove who they are")
    }
    context?.logInsecureOptions(role: "link", logger)
    loop = try (group ?? EventLoopGroup.shared()).next()
    core = await loop.run { loop in
      LoopBound(LinkCore(configuration, context: context, logger: logger), on: loop)
    }
  }

  /// The workers that announce `service`, in the order in which the grape gave them.
  ///
  /// - Returns: an empty array when nobody announces it.
  /// - Throws: `GrenacheError`: `grapeUnreachable`, `grapeRefused`, `notPermitted`, `overloaded`,
  ///   `limitReached`, `deadlineExceeded`, `cancelled`.
  public func lookup(
    _ service: String, within timeout: Duration = .seconds(5)
  ) async throws(GrenacheError) -> [Endpoint] {
    let core = core
    return try await Self.lookup(service, within: timeout, core: core, on: core.loop)
  }

  /// Announces once that this host serves `service` on `port`.
  ///
  /// - Returns: the number of other nodes that store it.
  /// - Throws: `GrenacheError`: `grapeRefused` for an error that the grape answers with, `notPermitted` and
  ///   `overloaded` where it says so; `grapeUnreachable`, `deadlineExceeded`, `cancelled`.
  @discardableResult
  public func announce(
    _ service: String, port: UInt16, within timeout: Duration = .seconds(5)
  ) async throws(GrenacheError) -> Int {
    let core = core
    return try await Self.announce(service, port, within: timeout, core: core, on: core.loop)
  }

  /// Announces `service` again and again until the task is cancelled.
  ///
  /// A failure is logged and tried again sooner, and so is an announcement that no other node stores:
  /// a grape that comes back learns of the service within seconds.
  public func keepAnnouncing(_ service: String, port: UInt16) async {
    while !Task.isCancelled {
      var pause = configuration.announceInterval
      do {
        let stored = try await announce(service, port: port)
        if stored == 0 { pause = min(pause, Self.retryInterval) }
      } catch {
        if error.code == .cancelled { return }
        logger.warning(
          "announcing failed",
          metadata: ["service": "\(service)", "error": "\(error)", "code": "\(error.code)"])
        pause = min(pause, Self.retryInterval)
      }
      try? await Task.sleep(for: pause * Double.random(in: 0.75...1.25))
    }
  }

  /// After this an announcement that has failed is tried again.
  private static let retryInterval = Duration.seconds(2)

  /// Loads the certificates again when their files change, until the task is cancelled or a graceful
  /// shutdown begins.
  ///
  /// Servers, publishers, subscribers, clients and `announcing` scopes that run with this link do that as well:
  /// it is for processes without any of them.
  public func run() async throws {
    await FileReloader.runUntilShutdown([certificateReloader].compactMap(\.self))
  }

  /// Loads the certificates again when their files change, for as long as `body` runs; among those who do so at
  /// the same time one looks for all.
  func withFreshCertificates<Result: Sendable>(
    _ body: @Sendable () async throws -> Result
  ) async rethrows -> Result {
    let (core, reloader) = (core, certificateReloader)
    await core.loop.run { loop in core.get(on: loop).beginReloading(reloader) }
    do {
      let result = try await body()
      await core.loop.run { loop in core.get(on: loop).endReloading() }
      return result
    } catch {
      await core.loop.run { loop in core.get(on: loop).endReloading() }
      throw error
    }
  }

  /// What keeps the certificates fresh, if there are any.
  var certificateReloader: FileReloader? {
    context.map { context in
      FileReloader(context, role: "link", logger: logger, report: configuration.tlsReloaded)
    }
  }

  /// Closes the connections to the grapes. Whoever subscribes over this link hears of no more publishers.
  public func close() async {
    let core = core
    await core.loop.run { loop in core.get(on: loop).close(on: loop) }
  }

  package static func lookup(
    _ service: String, within timeout: Duration, core: LoopBound<LinkCore>,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> [Endpoint] {
    try await core.get(on: loop).lookup(service, by: .now() + timeout, on: loop)
  }

  private static func announce(
    _ service: String, _ port: UInt16, within timeout: Duration, core: LoopBound<LinkCore>,
    on loop: isolated EventLoop
  ) async throws(GrenacheError) -> Int {
    try await core.get(on: loop).announce(service, port: port, by: .now() + timeout, on: loop)
  }

  /// The link's state, for code on its loop.
  package func core(on loop: isolated EventLoop) -> LinkCore { core.get(on: loop) }
}
