public import GrenacheTLS
public import GrenacheTransport

/// How a link reaches its grapes, and its limits.
public struct LinkConfiguration: Sendable {
  /// The grapes to ask, in order of preference; the next one is asked when one fails, and asked first for
  /// a minute from then on.
  public var grapes: [Endpoint]
  /// The certificates; `nil` only through `insecurePlaintext`: without, a link is refused.
  public var tls: TLSConfiguration?
  /// How long one grape may take for one request before the next one is asked (default 2.5 s).
  public var attemptTimeout = Duration.seconds(2.5)
  /// How long the result of a lookup is used again (default 10 s); an empty one is not kept.
  public var cacheAge = Duration.seconds(10)
  /// How much older a result may be for calls while it is looked up anew, or cannot be (default
  /// 120 s, after which a grape forgets, too).
  public var staleAge = Duration.seconds(120)
  /// Workers that are taken from one lookup; what a grape gives beyond them is left out (default 100: as
  /// many as grapes give).
  public var workersMax = 100
  /// Services whose lookups are kept (default 2,500).
  public var cacheEntriesMax = 2_500
  /// Lookups of different services that may be under way at once (default 1,000).
  public var lookupsInFlightMax = 1_000
  /// The mean time between two announcements of a service, each 25 % sooner or later by chance
  /// (default 40 s, a third of the time after which grapes forget).
  public var announceInterval = Duration.seconds(40)
  /// Told when certificates have been loaded again, or could not be.
  public var tlsReloaded: (@Sendable (TLSReloadOutcome) -> Void)?

  /// Mutual TLS towards grapes and workers.
  public init(grapes: [Endpoint], tls: TLSConfiguration) {
    self.grapes = grapes
    self.tls = tls
    isInsecurePlaintext = false
  }

  /// Whether no TLS was asked for by its long name.
  let isInsecurePlaintext: Bool

  private init(plaintextGrapes: [Endpoint]) {
    grapes = plaintextGrapes
    tls = nil
    isInsecurePlaintext = true
  }

  /// No TLS at all: nobody proves who they are, and everybody on the way reads and changes what is
  /// said. For networks of existing plaintext peers only.
  public static func insecurePlaintext(grapes: [Endpoint]) -> LinkConfiguration {
    LinkConfiguration(plaintextGrapes: grapes)
  }
}
