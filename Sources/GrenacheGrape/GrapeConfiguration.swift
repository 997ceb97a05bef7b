public import GrenacheAccess
internal import GrenacheDHT
public import GrenacheTLS
public import GrenacheTransport

/// Where a grape listens, whom it knows, and its limits.
public struct GrapeConfiguration: Sendable {
  /// The certificates of the API; `nil` only through `insecurePlaintext`.
  public var tls: TLSConfiguration?
  /// The address that the API listens on (default: all, IPv4 and IPv6 where there is any; with `insecurePlaintext`, IPv4's
  /// loopback).
  public var host: String?
  /// The port of the API; 0 lets the kernel choose.
  public var apiPort: UInt16
  /// Where else the API listens, with the same certificates; port 0 lets the kernel choose.
  public var additionalListeners: [(host: String, port: UInt16)] = []
  /// The UDP port of the DHT; 0 lets the kernel choose.
  public var dhtPort: UInt16
  /// The address that the DHT binds to (default: all IPv4 addresses, as existing grapes; with
  /// `insecurePlaintext`, loopback, lest what anybody may announce is spread).
  public var dhtHost = "0.0.0.0"
  /// The IPv6 address that the DHT binds to as well (BEP 32); `nil`, the default, for IPv4 alone. The
  /// port is that of IPv4.
  public var dhtHostIPv6: String?
  /// The addresses at which other nodes see the DHT, where it cannot be bound to them (behind NAT, in a
  /// cloud): at most one of IPv4 and one of IPv6 (default: none, what others say is believed). The
  /// identifiers follow from them (BEP 42).
  public var dhtPublicAddresses: [String] = []
  /// Confirms that with `insecurePlaintext` API and DHT may be on other addresses than loopback, where
  /// everybody who reaches them may announce anything (default: no; such an address is refused then).
  public var allowsInsecurePlaintextOnTheNetwork = false
  /// Other grapes' DHT addresses to begin with. The grape does not wait for names to be found, and looks
  /// for them again while one is missing or nobody is known, and every five minutes.
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
  /// Announcements of other nodes kept of one loopback address (default 5,000: all of a host's services).
  public var announcementsPerLoopbackAddressMax = 5_000
  /// The same of any other IP address (default 250: nobody takes the places of all services).
  public var announcementsPerAddressMax = 250
  /// The same of one /24, or /48 of IPv6 (default 500).
  public var announcementsPerNetworkMax = 500
  /// In place of both, of another node in the routing table (default 2,500): all services of a host.
  public var announcementsPerContactMax = 2_500
  /// Announcements kept of one caller of the API (default 2,500, then `ERR_GRAPE_CALLER_LIMIT`): a
  /// certificate's key, wherever it calls from, or the address of who has none, loopback exempt.
  public var announcementsPerCallerMax = 2_500
  /// Values kept (default 5,000; BEP 44).
  public var valuesMax = 5_000
  /// Values kept of one caller of the API, who is counted as for announcements (default 2,500); then
  /// the one that would expire first makes room.
  public var valuesPerCallerMax = 2_500
  /// Whether the grapes share a private network, where they may have many addresses of one /24; by
  /// default a routing table takes two of each, lest one party surrounds a service. Loopback is exempt.
  public var sharesPrivateNetwork = false
  /// Takes nodes whose identifier does not fit their public address (BEP 42), as those of existing
  /// grapes do not: whoever may choose identifiers may place himself where he likes.
  public var acceptsAnyNodeIdentifier = false
  /// Asks, but answers no queries of other nodes (BEP 43).
  public var isReadOnly = false
  /// The folder in which the grape keeps its contacts, announcements and values; `nil`, the default,
  /// for memory alone.
  public var stateFolder: String?
  /// The text that `/metrics` answers with (default: what `PrometheusMetrics.shared` has counted, if the
  /// program has made it the metrics system's).
  public var metrics: @Sendable () -> String = { PrometheusMetrics.shared.text }
  /// The largest body of an API request in bytes, itself allowed (default 8,192, then 413).
  public var payloadBytesMax = 8_192
  /// The web pages whose scripts may use the API (`https://host`, RFC 6454; default none): a browser sends
  /// requests of any page with its user's certificate, or to its user's own host.
  public var allowedOrigins: Set<String> = []
  /// How long an API request may wait for the DHT (default 5 s).
  public var requestTimeout = Duration.seconds(5)
  /// After this a lookup is answered with whom it has found, or as soon as it finds somebody, if there are
  /// nodes that keep it from ending (default 1 s: clients wait for 2.5 s, and nodes that are silent for
  /// 0.4 s). What is answered so is not remembered.
  public var lookupPatience = Duration.seconds(1)
  /// Requests of one caller, who is counted as for announcements, for which the DHT is asked at once
  /// (default 128, then 429 and `ERR_GRAPE_CALLER_LIMIT`): a link has eight at most. What is answered
  /// from memory does not count, and neither does what is watched.
  public var requestsPerCallerMax = 128
  /// The same of all callers (default 512, then 503 and `ERR_GRAPE_OVERLOADED`): they keep about as many
  /// queries under way as there may be. Nobody has more of them than are left for others.
  public var requestsMax = 512
  /// Who may announce and look up what (default: announce what one's certificate names, look up
  /// anything); `nil` only through `insecurePlaintext`, where anybody may do anything: a grape with
  /// certificates and without a policy does not run.
  public var access: AccessControl? = AccessControl()
  /// What is not said here of how the DHT behaves.
  var dht = DHTConfiguration()
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
    host = "127.0.0.1"
    dhtHost = "127.0.0.1"
  }

  /// The API in the clear: anybody may announce anything. For networks of existing plaintext peers
  /// only.
  public static func insecurePlaintext(
    apiPort: UInt16, dhtPort: UInt16, bootstrap: [Endpoint] = []
  ) -> GrapeConfiguration {
    GrapeConfiguration(apiPort: apiPort, dhtPort: dhtPort, plaintextBootstrap: bootstrap)
  }
}
