import ArgumentParser
import GrenacheCommandSupport
import GrenacheGrape
import GrenacheIO
import GrenacheTransport
import Logging
import Metrics
import ServiceLifecycle

/// `grape`: a node of the DHT with its API, with the options of the existing command.
@main
struct GrapeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grape",
    abstract: "A Grenache grape: a DHT node with an HTTPS API to announce and look up services.",
    discussion: """
      Exit codes: 0 ended by SIGTERM or SIGINT, 64 wrong usage, 70 failed, as where a port is taken, 73 the \
      state folder cannot be used, 78 certificates, policy or configuration cannot be used.
      Completions for a shell: grape --generate-completion-script bash|zsh|fish.
      """,
    version: "0.1.0")

  @Option(name: [.customShort("b"), .customLong("bind")], help: "Address of the API.")
  var bind: String?
  @Option(
    name: [.customLong("dp"), .customLong("dht_port")], help: "UDP port of the DHT; 0 for any.")
  var dhtPort: UInt16
  @Option(
    name: [.customLong("dc"), .customLong("dht_concurrency")],
    help: "Queries of one lookup at once.")
  var dhtConcurrency: Int = 8
  @Option(name: .customLong("dht_maxTables"), help: "Services whose announcements are kept.")
  var dhtMaxTables: Int = 5_000
  @Option(help: "Announcements kept of one other grape that is known; half as many as services.")
  var announcementsPerGrape: Int?
  @Option(
    help:
      "Announcements kept of another address; a twentieth as many as services, and of its network twice that."
  )
  var announcementsPerAddress: Int?
  @Option(name: .customLong("dht_maxValues"), help: "Values kept.")
  var dhtMaxValues: Int = 5_000
  @Option(
    name: .customLong("dht-bind"),
    help: "IPv4 address of the DHT; all by default, loopback with --insecure-plaintext.")
  var dhtBind: String?
  @Option(name: .customLong("dht-bind-ipv6"), help: "IPv6 address of the DHT; none by default.")
  var dhtBindIPv6: String?
  @Option(
    name: .customLong("dht-public-address"),
    help: "IP address at which other nodes see the DHT, one of IPv4, one of IPv6; else learned.")
  var dhtPublicAddress: [String] = []
  @Option(
    name: .customLong("listen"), help: "Another host:port for the API; may be given several times.")
  var listen: [String] = []
  @Option(
    help: "Folder for contacts, announcements and values, so that they outlive a restart.",
    completion: .directory)
  var stateDir: String?
  @Flag(help: "The grapes share a private network: many of one /24 may be known.")
  var privateNetwork = false
  @Flag(help: "Know nodes on public addresses whose identifier does not fit (existing grapes).")
  var acceptAnyNodeId = false
  @Flag(help: "Ask other nodes, but answer none (BEP 43).")
  var readOnly = false
  @Option(
    name: [.customLong("bn"), .customLong("bootstrap")],
    help: "Other grapes' DHT addresses, host:port, separated by commas; may be empty.")
  var bootstrap: String
  @Option(
    name: [.customLong("aph"), .customLong("api_port")], help: "Port of the API; 0 for any.")
  var apiPort: UInt16
  @Option(
    name: [.customLong("dpa"), .customLong("dht_peer_maxAge")],
    help: "Milliseconds for which an announcement is kept.")
  var peerMaxAge: Int = 120_000
  @Option(
    name: .customLong("cache_maxAge"),
    help: "Accepted for compatibility; without effect, as in the existing command.")
  var cacheMaxAge: Int?
  @Option(
    name: [.customLong("dnl"), .customLong("dht_nodeLiveness")],
    help: "Milliseconds of silence after which a node is asked whether it lives.")
  var nodeLiveness: Int = 300_000
  @Option(name: .customLong("check_maxPayloadSize"), help: "Largest body of a request in bytes.")
  var maxPayloadSize: Int = 8_192
  @Flag(help: "Say where the grape listens as JSON.")
  var json = false
  @OptionGroup var tls: TLSOptions
  @Option(
    help: "YAML file with who may announce and look up what.",
    completion: .file(extensions: ["yaml", "yml"]))
  var accessPolicy: String?
  @OptionGroup var logging: LoggingOptions

  func run() async throws {
    try await runCommand(mapping: Self.exit) {
      let logger = try logging.logger("grape")
      MetricsSystem.bootstrap(PrometheusMetrics.shared)
      let node = GrapeNode(try grapeConfiguration(), logger: logger)
      let json = json
      try await runServices([ReadyGrape(node: node, json: json)], logger: logger)
    }
  }

  private static func exit(for error: any Error) -> CommandExit {
    switch (error as? GrapeError)?.code {
    case .invalidConfiguration?: .configuration
    case .stateUnusable?: .cannotCreate
    default: .software
    }
  }

  func grapeConfiguration() throws -> GrapeConfiguration {
    let bootstrap = try bootstrap.split(separator: ",").map { text in
      guard let endpoint = Endpoint(String(text)) else {
        throw CommandFailure(.usage, "--bn: \(text) is not host:port.")
      }
      return endpoint
    }
    var configuration: GrapeConfiguration
    if let tls = try tls.configuration() {
      configuration = GrapeConfiguration(
        apiPort: apiPort, dhtPort: dhtPort, bootstrap: bootstrap, tls: tls)
      configuration.host = bind
      if let accessPolicy { configuration.access = try AccessControl(file: accessPolicy) }
    } else {
      try tls.checkNoPolicy(accessPolicy)
      configuration = .insecurePlaintext(
        apiPort: apiPort, dhtPort: dhtPort, bootstrap: bootstrap)
      let host = bind ?? "127.0.0.1"
      let isLoopback = host == "localhost" || SocketAddress(ip: host, port: 0)?.isLoopback == true
      try tls.checkPlaintext(listeningOnLoopback: isLoopback)
      configuration.host = host
      configuration.allowsInsecurePlaintextOnTheNetwork = tls.insecurePlaintextOnTheNetwork
      // What anybody may announce is not to be spread unless that is confirmed.
      if tls.insecurePlaintextOnTheNetwork { configuration.dhtHost = "0.0.0.0" }
    }
    if let dhtBind {
      let isLoopback = SocketAddress(ip: dhtBind, port: 0)?.isLoopback == true
      try tls.checkPlaintext(listeningOnLoopback: isLoopback)
      configuration.dhtHost = dhtBind
    }
    if let dhtBindIPv6 {
      let isLoopback = SocketAddress(ip: dhtBindIPv6, port: 0)?.isLoopback == true
      try tls.checkPlaintext(listeningOnLoopback: isLoopback)
    }
    guard dhtConcurrency > 0, dhtMaxTables > 0, dhtMaxValues > 0, peerMaxAge > 0,
      nodeLiveness > 0, maxPayloadSize > 0
    else { throw CommandFailure(.usage, "limits and times must be greater than 0.") }
    configuration.lookupParallelism = dhtConcurrency
    configuration.servicesMax = dhtMaxTables
    configuration.valuesMax = dhtMaxValues
    let perGrape = announcementsPerGrape ?? max(2_500, dhtMaxTables / 2)
    let perAddress = announcementsPerAddress ?? max(250, dhtMaxTables / 20)
    guard perGrape > 0, perAddress > 0 else {
      throw CommandFailure(.usage, "limits and times must be greater than 0.")
    }
    configuration.announcementsMax = max(10_000, min(dhtMaxTables, 1 << 40) * 2)
    configuration.announcementsPerContactMax = perGrape
    configuration.announcementsPerAddressMax = perAddress
    configuration.announcementsPerNetworkMax = min(perAddress, 1 << 40) * 2
    // Whoever raises the limits means them for his services, which may share a certificate.
    configuration.announcementsPerCallerMax = max(
      configuration.announcementsPerCallerMax, dhtMaxTables / 2)
    configuration.valuesPerCallerMax = max(configuration.valuesPerCallerMax, dhtMaxValues / 2)
    configuration.dhtHostIPv6 = dhtBindIPv6
    configuration.dhtPublicAddresses = dhtPublicAddress
    configuration.stateFolder = stateDir
    configuration.sharesPrivateNetwork = privateNetwork
    configuration.acceptsAnyNodeIdentifier = acceptAnyNodeId
    configuration.isReadOnly = readOnly
    configuration.additionalListeners = try listeners()
    configuration.peerAge = .milliseconds(peerMaxAge)
    configuration.nodeLiveness = .milliseconds(nodeLiveness)
    configuration.payloadBytesMax = maxPayloadSize
    return configuration
  }
}

extension GrapeCommand {
  /// The further addresses of the API; in the clear, each has to be on loopback as well.
  fileprivate func listeners() throws -> [(host: String, port: UInt16)] {
    try listen.map { text in
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      guard parts.count > 1, let port = parts.last.flatMap({ UInt16($0) }) else {
        throw CommandFailure(.usage, "--listen: \(text) is not host:port.")
      }
      let host = parts.dropLast().joined(separator: ":").filter { $0 != "[" && $0 != "]" }
      let isLoopback = host == "localhost" || SocketAddress(ip: host, port: 0)?.isLoopback == true
      try tls.checkPlaintext(listeningOnLoopback: isLoopback)
      return (host, port)
    }
  }
}

/// A grape that says on standard output where it listens.
private struct ReadyGrape: Service {
  let node: GrapeNode
  let json: Bool

  func run() async throws {
    let json = json
    try await node.run { addresses in
      if json {
        printLine("{\"api\":\"\(addresses.api)\",\"dht\":\"\(addresses.dht)\"}")
      } else {
        printLine("grape: API at \(addresses.api), DHT at \(addresses.dht)")
      }
    }
  }
}
