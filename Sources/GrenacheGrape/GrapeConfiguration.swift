public import GrenacheAccess
public import GrenacheTLS
public import GrenacheTransport

/// Where a grape listens, whom it knows, and its limits.
public struct GrapeConfiguration: Sendable {
  /// The certificates of the API; `nil` only through `insecurePlaintext`.
  public var tls: TLSConfiguration?
  /// The address that the API listens on (default: all, IPv4 and IPv6), and, unless it is a wildcard,
  /// under which this grape keeps what is announced to it.
  public var host: String?
  /// The port of the API; 0 lets the kernel choose.
  public var apiPort: UInt16
  /// The UDP port of the DHT, on all IPv4 addresses; 0 lets the kernel choose.
  public var dhtPort: UInt16
  /// The address that the DHT binds to (default: all IPv4 addresses, as existing grapes).
  public var dhtHost = "0.0.0.0"
  /// Other grapes' DHT addresses to begin with.
  public var bootstrap: [Endpoint]
  /// How long an announcement is kept (default 120 s).
  public var peerAge = Duration.seconds(120)
  /// A silent node is asked whether it lives after this (default 5 min).
  public var nodeLiveness = Duration.seconds(300)
  /// Queries of one lookup at once (default 8).
  public var lookupParallelism = 8
  /// Services whose announcements are kept (default 5,000).
  public var servicesMax = 5_000
  /// Announcements kept (default 10,000).
  public var announcementsMax = 10_000
  /// The largest body of an API request in bytes, itself allowed (default 8,192, then 413).
  public var payloadBytesMax = 8_192
  /// How long an API request may wait for the DHT (default 5 s).
  public var requestTimeout = Duration.seconds(5)
  /// Who may announce and look up what (default: announce what one's certificate names, look up
  /// anything); `nil` only through `insecurePlaintext`, where anybody may do anything.
  public var access: AccessControl? = AccessControl()
  /// Told when certificates have been loaded again, or could not be.
  public var tlsReloaded: (@Sendable (TLSReloadOutcome) -> Void)?

  /// The API over HTTPS with client certificates.
  public init(
    apiPort: UInt16, dhtPort: UInt16, bootstrap: [Endpoint] = [], tls: TLSConfiguration
  ) {
    self.apiPort = apiPort
    self.dhtPort = dhtPort
    self.bootstrap = bootstrap
    self.tls = tls
  }

  private init(apiPort: UInt16, dhtPort: UInt16, plaintextBootstrap: [Endpoint]) {
    self.apiPort = apiPort
    self.dhtPort = dhtPort
    bootstrap = plaintextBootstrap
    tls = nil
    access = nil
  }

  /// The API in the clear: anybody may announce anything. For networks of existing plaintext peers
  /// only.
  public static func insecurePlaintext(
    apiPort: UInt16, dhtPort: UInt16, bootstrap: [Endpoint] = []
  ) -> GrapeConfiguration {
    GrapeConfiguration(apiPort: apiPort, dhtPort: dhtPort, plaintextBootstrap: bootstrap)
  }
}
