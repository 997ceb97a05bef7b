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
  public var bufferEventsMax = 1_024
  /// Bytes that those events may have before it is the same; the last of them may go beyond (default
  /// 4 MiB).
  public var bufferBytesMax = 4 << 20
  /// Bytes of one publisher's that may wait in the kernel, about, beside those (default 256 KiB): what a
  /// publisher may send ahead of a subscriber that does not keep up, and what one round trip may carry. `nil`
  /// for what the system thinks fit, which can be many megabytes.
  public var receiveBufferBytes: Int? = 256 << 10
  /// How long an address is believed to be another one of a publisher that is followed elsewhere, before it
  /// is asked again who is there.
  package var aliasAgeMax = Duration.seconds(300)
  /// The mean time between two lookups of the publishers, each 25 % sooner or later, where the grape
  /// does not tell of changes by itself (default 5 s).
  public var lookupInterval = Duration.seconds(5)
  /// Addresses of publishers that are followed at once (default 100); more are left out, with a line in the
  /// log.
  public var publishersMax = 100
  /// Publishers that are gone of which is remembered where they were, the last so many (default 1,000). One
  /// that comes back later than that is a new one: what it says before it is found is not named.
  public var absentPublishersMax = 1_000
  /// The longest pause before connecting to a publisher of which a grape tells later on, drawn by chance:
  /// all subscribers hear of it at the same moment (default 500 ms). Those that are there when following
  /// begins are connected to at once.
  public var firstConnectDelayMax = Duration.milliseconds(500)
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
  public var acceptsInsecurePublishersByAddress = false
  /// Who of those may publish: their identity must have the right `publish` on the key (default: all of
  /// them). After a change who may not publish any more is left at once; without TLS nobody has a right.
  public var access: AccessControl?
  /// Told when something is in the way: a first time, and when it is something else; of one publisher once
  /// in ten seconds at most. The same is logged as a warning.
  public var failed: (@Sendable (SubscriptionFailure) -> Void)?

  /// The defaults.
  public init() {}
}

/// What a subscriber hears.
public enum SubscriptionEvent: Hashable, Sendable {
  /// A message, and the address that it came from: one of its publisher's.
  case message(PubMessage, from: Endpoint)
  /// Messages are missing: those with these numbers of that run (see `PubMessage.run`), or nobody knows how
  /// many. Without numbers it is what a run said at last, and what runs behind it have said that nobody has
  /// heard; without a run it is what a publisher has said that numbers nothing. (A run that begins and ends
  /// between two connections of a subscriber that keeps up, behind one that ended in order, is in no gap.)
  case gap(ClosedRange<UInt64>?, run: String?, from: Endpoint)
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
/// A publisher that grapes know by several addresses is followed at one of them; another one is tried when
/// that fails. Whom it cannot follow, and why, it logs as a warning on its link's logger; `failures` and
/// `PeerSubConfiguration.failed` tell the program.
///
/// At most `bufferEventsMax` events, of `bufferBytesMax` bytes, wait; a subscriber that is too slow for that
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
    guard configuration.bufferEventsMax > 0, configuration.bufferBytesMax > 0 else {
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
    if configuration.acceptsInsecurePublishersByAddress {
      link.logger.warning(
        "publishers are believed by their address: any host with a certificate can publish a key")
    }
    core = await link.loop.run { loop in
      LoopBound(SubCore(key, link: link, configuration), on: loop)
    }
  }

  /// Follows the publishers, and loads the link's certificates again when their files change, until the
  /// task is cancelled or a graceful shutdown begins; then the sequence ends behind what has come.
  ///
  /// It may be run again, and goes on where it was: with another iterator, since an iterator that has ended
  /// has ended for good.
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

  /// What is in the way at present: publishers that cannot be followed, and why nobody can say who they are.
  public var failures: [SubscriptionFailure] {
    get async {
      let core = core
      return await core.loop.run { loop in core.get(on: loop).currentFailures }
    }
  }

  /// Whether a grape tells of changes by itself at present.
  package var isWatching: Bool {
    get async {
      let core = core
      return await core.loop.run { loop in core.get(on: loop).isWatching(on: loop) }
    }
  }

  /// Takes events; where several readers do, each event goes to one of them.
  public struct AsyncIterator: AsyncIteratorProtocol, Sendable {
    fileprivate let core: LoopBound<SubCore>
    private var isOver = false

    fileprivate init(core: LoopBound<SubCore>) { self.core = core }

    /// The next event; `nil` once following has ended and what had come was taken, or the task was
    /// cancelled.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async -> SubscriptionEvent? {
      if isOver { return nil }
      let event = await PeerSub.next(core, on: core.loop)
      isOver = event == nil
      return event
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
