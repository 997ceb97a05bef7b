import ArgumentParser
import Grenache
import GrenacheCommandSupport
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Logging

/// `grenache`: services, calls and certificates from the command line.
@main
struct GrenacheCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "grenache",
    abstract: "Announce, look up, serve and call services over mutual TLS.",
    discussion: """
      Data goes to standard output, messages and logs to standard error.
      Exit codes: 0 done, 64 wrong usage, 65 wrong input, 69 not available, 70 failed, \
      73 cannot be made, 75 too late, 77 not trusted, 78 certificates or configuration.
      Completions for a shell: grenache --generate-completion-script bash|zsh|fish.
      """,
    version: "0.1.0",
    subcommands: [
      Announce.self, Lookup.self, Put.self, Get.self, Keygen.self,
      Call.self, Stream.self, Serve.self, Pub.self, Sub.self, MapCommand.self, Bench.self,
      Certs.self, TLSCommand.self,
      Dev.self, Echo.self,
    ])
}

/// The grapes to ask, for commands that ask some.
struct GrapeOptions: ParsableArguments {
  /// The port of a grape whose address has none.
  static let defaultPort: UInt16 = 30_001

  @Option(
    name: [.customShort("g"), .long], parsing: .singleValue,
    help: "A grape's API, host:port or host; several times for several grapes.")
  var grape: [String] = ["127.0.0.1"]
  @OptionGroup var tls: TLSOptions
  @OptionGroup var logging: LoggingOptions

  /// - Parameter port: that of addresses without one.
  func endpoints(port: UInt16 = Self.defaultPort) throws -> [Endpoint] {
    try grape.map { text in
      guard let endpoint = Endpoint(text) ?? Endpoint("\(text):\(port)") else {
        throw CommandFailure(.usage, "--grape: \(text) is not host:port.")
      }
      return endpoint
    }
  }

  func link(_ logger: Logger, port: UInt16 = Self.defaultPort) async throws -> Link {
    let endpoints = try endpoints(port: port)
    guard let tls = try tls.configuration() else {
      return try await Link(.insecurePlaintext(grapes: endpoints), logger: logger)
    }
    return try await Link(LinkConfiguration(grapes: endpoints, tls: tls), logger: logger)
  }

  /// The link of a server, whose certificates count even if it serves callers without TLS, too.
  func serverLink(_ logger: Logger) async throws -> Link {
    guard let tls = try tls.configurationBesidePlaintext() else { return try await link(logger) }
    return try await Link(
      LinkConfiguration(grapes: try endpoints(), tls: tls), logger: logger)
  }

}

/// Seconds as people give them.
///
/// - Throws: `CommandFailure` that names the option.
func duration(_ seconds: Double, _ option: String = "--timeout") throws -> Duration {
  guard seconds > 0, seconds <= 86_400 else {
    throw CommandFailure(.usage, "\(option): more than 0 and at most 86400 seconds.")
  }
  return .seconds(seconds)
}

/// The options of the tools that existing users know: `-g HOST -p PORT -t`.
struct GrapeToolOptions: ParsableArguments {
  @Option(name: .shortAndLong, help: "The port of a --grape that is given without one.")
  var port: UInt16 = GrapeOptions.defaultPort
  @Flag(
    name: .shortAndLong, help: "TLS, as existing tools ask for it; there is TLS without it, too.")
  var tls = false
  @OptionGroup var grapes: GrapeOptions

  func link() async throws -> Link {
    guard port > 0 else { throw CommandFailure(.usage, "--port: more than 0.") }
    guard !tls || !grapes.tls.insecurePlaintext else {
      throw CommandFailure(.usage, "--tls and --insecure-plaintext exclude each other.")
    }
    return try await grapes.link(try grapes.logging.logger("grenache"), port: port)
  }
}

/// How calls are brought to workers.
struct TransportOptions: ParsableArguments {
  @Option(help: "How calls are made: wss or https.", completion: .list(["wss", "https"]))
  var transport = "wss"
  @Flag(help: "With --transport https: compress calls and replies.")
  var gzip = false
  @OptionGroup var proof: WorkerProofOptions

  func configuration() throws -> PeerRPCClientConfiguration {
    var configuration = PeerRPCClientConfiguration()
    proof.apply(to: &configuration)
    switch transport {
    case "wss": configuration.transport = .wss
    case "https": configuration.transport = .https
    default: throw CommandFailure(.usage, "--transport: wss or https.")
    }
    guard !gzip || transport == "https" else {
      throw CommandFailure(.usage, "--gzip goes with --transport https.")
    }
    configuration.compressesHTTP = gzip
    return configuration
  }
}

/// How workers prove who they are, beside by the certificate that names the service.
struct WorkerProofOptions: ParsableArguments {
  @Flag(
    help: """
      Believe workers that a lookup finds by their address alone: any host with a certificate for its \
      own address can answer for every service.
      """)
  var insecureAcceptWorkersByAddress = false

  func apply(to configuration: inout PeerRPCClientConfiguration) {
    configuration.acceptsInsecureWorkersByAddress = insecureAcceptWorkersByAddress
  }
}

/// The worker that an option names.
func worker(_ text: String?) throws -> Endpoint? {
  try text.map { text in
    guard let endpoint = Endpoint(text) else {
      throw CommandFailure(.usage, "--to: \(text) is not host:port.")
    }
    return endpoint
  }
}

/// The address that a server is to listen on.
func bindAddress(_ host: String, port: UInt16) throws -> SocketAddress {
  guard let address = SocketAddress(ip: host, port: port) else {
    throw CommandFailure(.usage, "--bind: \(host) is not an IP address.")
  }
  return address
}

/// Tells on standard error what went wrong with one of several things.
///
/// - Returns: what the process would end with for that alone.
func tell(_ error: any Error) -> CommandExit {
  printError("error: \(error)")
  return (error as? CommandFailure)?.exit ?? commandExit(for: error)
}

/// What the process ends with for an error of the library.
func commandExit(for error: any Error) -> CommandExit {
  guard let error = error as? GrenacheError else { return .software }
  switch error.code {
  case .serviceNotFound, .workerUnreachable: return .unavailable
  case .grapeUnreachable: return error.cause?.tls == nil ? .unavailable : .notPermitted
  case .workerNotTrusted, .notPermitted, .invalidItem: return .notPermitted
  case .deadlineExceeded, .overloaded, .limitReached: return .temporary
  case .invalidPayload: return .usage
  case .invalidConfiguration: return .configuration
  default: return .software
  }
}
