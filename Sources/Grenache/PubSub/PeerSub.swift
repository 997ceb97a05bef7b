public import GrenacheAccess
internal import GrenacheIO
public import GrenacheTLS
public import GrenacheTransport
internal import Logging
public import ServiceLifecycle

/// How a subscriber follows its publishers, and its limits.
public struct PeerSubConfiguration: Sendable {
  /// Only messages about these; `nil` for all. Existing publishers know no topics and send everything.
  public var topics: [String]?
  /// Events that may wait to be taken; then publishers are no longer read from, and what comes all the
  /// same is told as a gap (default 1,024).
  public var bufferMax = 1_024
  /// Bytes that those events may have before it is the same; the last of them may go beyond (default
  /// 4 MiB).
  public var bufferBytesMax = 4 << 20
  /// The mean time between two lookups of the publishers, each 25 % sooner or later, where the grape
  /// does not tell of changes by itself (default 5 s).
  public var lookupInterval = Duration.seconds(5)
  /// Publishers that are followed at once (default 100).
  public var publishersMax = 100
  /// How long connecting to one may take (default 10 s, as long as a publisher lets connections wait
  /// for their handshake: who gives up sooner begins at the end of the line again).
  public var connectTimeout = Duration.seconds(10)
  /// The pause before connecting again, at first; it doubles with each failure, and each is drawn by
  /// chance between half and all of it (default 250 ms).
  public var reconnectDelayMin = Duration.milliseconds(250)
  /// The longest such pause (default 3 s).
  public var reconnectDelayMax = Duration.seconds(3)
  /// What a message may hold.
  public var webSocket = WebSocketLimits()
  /// Who may publish, other than by default: the certificate names the key by a URI `grenache:<key>`.
  public var verification: PeerVerification?
  /// Whether publishers may prove themselves by their address alone, for fleets whose certificates name
  /// no keys (default `false`). Then everybody with a certificate for an address of their own (a grape,
  /// any other host of the fleet) can answer a lookup with that address and is listened to.
  public var acceptsPublishersByAddress = false
  /// Who of those may publish: their identity must have the right `publish` on the key (default: all of
  /// them). After a change who may not publish any more is left at once; without TLS nobody has a right.
  public var access: AccessControl?

  /// The defaults.
  public init() {}
}

/// What a subscriber hears.
public enum SubscriptionEvent: Hashable, Sendable {
  /// A message.
  case message(PubMessage, from: Endpoint)
  /// Messages of this publisher are missing: those with these numbers, or nobody knows how many.
  case gap(ClosedRange<UInt64>?, from: Endpoint)
}

/// Subscribes to all publishers of a key: finds them through a link, follows them as they come and go, and
/// connects again after a loss, with pauses drawn by chance, from where it was.
///
///     let sub = try await PeerSub("prices", link: link)
///     async let following: Void = sub.run()
///     for await event in sub {
///       if case .message(let message, _) = event { print(message.text) }
///     }
///
/// At most `bufferMax` events, of `bufferBytesMax` bytes, wait; a subscriber that is too slow for that
/// meets its publishers' limits, who tell it what it has lost, if they are of this package.
public final class PeerSub: AsyncSequence, Service {
  /// What it hears.
  public typealias Element = SubscriptionEvent

  /// The key that it subscribes to.
  public let key: String
  package let link: Link
  package let configuration: PeerSubConfiguration
  private let core: LoopBound<SubCore>

  /// A subscriber that hears something once `run` is called.
  public init(
    _ key: String, link: Link, configuration: PeerSubConfiguration = PeerSubConfiguration()
  ) async throws {
    guard configuration.bufferMax > 0, configuration.bufferBytesMax > 0 else {
      throw GrenacheError(
        .invalidConfiguration, "a subscriber needs a buffer of one event at least")
    }
    guard configuration.topics?.allSatisfy({ PubMessage.isTopic($0) }) ?? true else {
      throw GrenacheError(
        .invalidConfiguration, "a topic has \(PubMessage.topicBytesMax) bytes at most")
    }
    self.key = key
    self.link = link
    self.configuration = configuration
    if configuration.acceptsPublishersByAddress {
      link.logger.warning(
        "publishers are believed by their address: any host with a certificate can publish a key")
    }
    core = await link.loop.run { loop in
      LoopBound(SubCore(key, link: link, configuration), on: loop)
    }
  }

  /// Follows the publishers until the task is cancelled or a graceful shutdown begins; then the sequence
  /// ends behind what has come.
  public func run() async {
    let core = core
    await core.loop.run { loop in core.get(on: loop).follow(on: loop) }
    let access = configuration.access.flatMap {
      FileReloader($0, role: "subscriber", logger: link.logger)
    }
    await FileReloader.runUntilShutdown([access].compactMap(\.self))
    await core.loop.run { loop in core.get(on: loop).stop(on: loop) }
  }

  /// The publishers that are connected.
  public var publishers: [Endpoint] {
    get async {
      let core = core
      return await core.loop.run { loop in core.get(on: loop).connected }
    }
  }

  /// Whether a grape tells of changes by itself at present.
  package var isWatching: Bool {
    get async {
      let core = core
      return await core.loop.run { loop in core.get(on: loop).isWatching(on: loop) }
    }
  }

  /// Takes events, one reader at a time.
  public struct AsyncIterator: AsyncIteratorProtocol, Sendable {
    fileprivate let core: LoopBound<SubCore>

    /// The next event; `nil` once following has ended and what had come was taken, or the task was
    /// cancelled.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async -> SubscriptionEvent? {
      await PeerSub.next(core, on: core.loop)
    }
  }

  /// What comes from now on, and what waits already.
  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(core: core) }

  private static func next(
    _ core: LoopBound<SubCore>, on loop: isolated EventLoop
  ) async -> SubscriptionEvent? {
    await core.get(on: loop).next(on: loop)
  }
}
