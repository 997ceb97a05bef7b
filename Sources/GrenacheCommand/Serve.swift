import ArgumentParser
import Foundation
import Grenache
import GrenacheCommandSupport
import GrenacheIO
import GrenacheTLS
import Logging
import ServiceLifecycle

/// `grenache serve KEY --port N`
struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve and announce a service until SIGTERM.",
    discussion: """
      Exactly one of --reply, --echo and --exec says what calls are answered with. The command of --exec \
      runs in /bin/sh for each call, with the payload on its standard input; what it prints is the reply, \
      as JSON if it is JSON, else as a string. Calls come over WSS or HTTPS; with --echo, streams over \
      HTTPS are echoed, too. With certificates, --insecure-plaintext serves callers without TLS as well, \
      on the same port, unless --access-policy allows calls to some only, or of some keys.
      """)

  @Argument(help: "The service.")
  var key: String
  @Option(name: .shortAndLong, help: "The port; 0 for any.")
  var port: UInt16
  @Option(help: "Answer with this text.")
  var reply: String?
  @Flag(help: "Answer with the payload.")
  var echo = false
  @Option(help: "Answer with what this command prints.")
  var exec: String?
  @Option(help: "The address to listen on.", completion: .list(["127.0.0.1", "::1", "::"]))
  var bind: String?
  @Option(
    help: "YAML file with who may call what.",
    completion: .file(extensions: ["yaml", "yml"]))
  var accessPolicy: String?
  @Flag(help: "Do not announce.")
  var noAnnounce = false
  @Flag(help: "Say where the service listens as JSON.")
  var json = false
  @Option(
    help: "Calls answered at once; more are turned away (1000; of --exec four for each processor).")
  var callsInFlight: Int?
  @Flag(name: .shortAndLong, help: "Log each call and who made it.")
  var verbose = false
  @OptionGroup var grapes: GrapeOptions

  func run() async throws {
    try await runCommand(mapping: commandExit) {
      let logger = try grapes.logging.logger("grenache")
      let service = try service(logger)
      let configuration = try serverConfiguration()
      let link = noAnnounce ? nil : try await grapes.serverLink(logger)
      let server = PeerRPCServer(configuration, services: [service], link: link, logger: logger)
      try await runServices(
        [ReadyServer(server: server, key: key, json: json)], logger: logger)
    }
  }

  private func serverConfiguration() throws -> PeerRPCServerConfiguration {
    let host = bind ?? (grapes.tls.insecurePlaintext ? "127.0.0.1" : "::")
    let address = try bindAddress(host, port: port)
    var configuration: PeerRPCServerConfiguration
    if let tls = try grapes.tls.configurationBesidePlaintext() {
      configuration = PeerRPCServerConfiguration(port: port, tls: tls)
      configuration.acceptsInsecurePlaintextBesideTLS = grapes.tls.insecurePlaintext
      if let accessPolicy { configuration.access = try AccessControl(file: accessPolicy) }
    } else {
      try grapes.tls.checkNoPolicy(accessPolicy)
      configuration = .insecurePlaintext(port: port)
    }
    try grapes.tls.checkPlaintext(listeningOnLoopback: address.isLoopback)
    configuration.allowsInsecurePlaintextOnTheNetwork = grapes.tls.insecurePlaintextOnTheNetwork
    configuration.host = host
    return configuration
  }

  private func service(_ logger: Logger) throws -> RPCService {
    let verbose = verbose
    let answer = try handler()
    let handler: RPCService.Handler = { request in
      if verbose {
        let who = request.identity?.displayName ?? "\(request.remoteAddress)"
        logger.info("call", metadata: ["service": "\(request.service)", "by": "\(who)"])
      }
      return try await answer(request)
    }
    var service = RPCService(raw: key, handler, stream: echo ? Self.echoStream : nil)
    // Each command is a process or several: a burst of calls must not be the machine's end.
    let processes = 4 * ProcessInfo.processInfo.activeProcessorCount
    service.callsMax =
      callsInFlight ?? (exec == nil ? service.callsMax : processes)
    guard service.callsMax > 0 else {
      throw CommandFailure(.usage, "--calls-in-flight: 1 or more.")
    }
    return service
  }

  private static let echoStream: RPCService.StreamHandler = { _, stream in
    for try await part in stream.incoming { try await stream.write(part) }
  }

  private func handler() throws -> RPCService.Handler {
    switch (reply, echo, exec) {
    case (let reply?, false, nil):
      let answer = JSONLine.string(reply)
      return { _ in answer }
    case (nil, true, nil):
      return { $0.payload }
    case (nil, false, let command?):
      return { try await ShellCommand(command).run(input: $0.payload) }
    default:
      throw CommandFailure(.usage, "name exactly one of --reply, --echo and --exec.")
    }
  }
}

/// A server that says on standard output where it listens.
private struct ReadyServer: Service {
  let server: PeerRPCServer
  let key: String
  let json: Bool

  func run() async throws {
    let (key, json) = (key, json)
    try await server.run { address in
      if json {
        printLine(JSONLine.object(["service": key, "address": "\(address)"]))
      } else {
        printLine("serving \(key) at \(address)")
      }
    }
  }
}
