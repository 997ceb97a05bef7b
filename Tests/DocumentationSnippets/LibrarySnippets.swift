import Grenache
import GrenacheGrape

// What the README and the pages of the libraries show, compiled, each with what its reader has at hand.
// `DocumentationTests` looks for every block of theirs, but for its comments, here and in the examples.

/// README.md: a worker, and a client.
func readme() async throws {
  let tls = TLSConfiguration.directory("/etc/hello/tls")
  let link = try await Link(
    LinkConfiguration(grapes: [Endpoint(host: "grape-1.internal", port: 30001)], tls: tls))

  let hello = RPCService("hello") { (name: String, request: RPCRequest) in
    "Hello \(name), I know you as \(request.identity?.displayName ?? "nobody")"
  }
  let server = PeerRPCServer(
    PeerRPCServerConfiguration(port: 1337, tls: tls), services: [hello], link: link)
  try await server.run()  // announces while it runs; a swift-service-lifecycle `Service`

  let client = await PeerRPCClient(link: link)
  let greeting: String = try await client.request("hello", "Ada", within: .seconds(2))
  _ = greeting
}

/// Grenache.md
func grenache() async throws {
  let tls = TLSConfiguration.directory("/etc/hello/tls")  // cert.pem, key.pem, ca.pem
  let grape = Endpoint(host: "grape-1.internal", port: 30001)
  let link = try await Link(LinkConfiguration(grapes: [grape], tls: tls))

  let hello = RPCService("hello") { (name: String, request: RPCRequest) in "Hello \(name)" }
  let server = PeerRPCServer(
    PeerRPCServerConfiguration(port: 1337, tls: tls), services: [hello], link: link)
  try await server.run()

  // and elsewhere
  let client = await PeerRPCClient(link: link)
  let greeting: String = try await client.request("hello", "Ada", within: .seconds(2))
  _ = greeting
}

/// Errors.md
func errors(_ client: PeerRPCClient, _ order: [String]) async throws {
  // It would add a space behind `catch`:
  // swift-format-ignore
  do {
    let total: Int = try await client.request("billing", order, within: .seconds(2))
    print("that makes \(total)")
  } catch where error.isRetryable {
    // Nobody has carried it out: try again later, or elsewhere.
  } catch where error.code == .connectionLost {
    // It may have been carried out: ask, or try again only what is idempotent.
  } catch {
    // The rest will fail again.
  }
}

/// GrenacheGrape.md
func grape() async throws {
  var configuration = GrapeConfiguration(
    apiPort: 30001, dhtPort: 20001, bootstrap: [Endpoint(host: "192.0.2.1", port: 20001)],
    tls: .directory("/etc/grape/tls"))
  configuration.stateFolder = "/var/lib/grape"
  try await GrapeNode(configuration).run()
}

/// GrenacheAccess.md and GrenacheFraming.md
func limits(_ configuration: inout PeerRPCServerConfiguration) throws {
  let access = try AccessControl(file: "/etc/hello/policy.yaml")  // loaded again when it changes
  configuration.access = access

  configuration.transport.http.bodyBytesMax = 4 << 20
  configuration.transport.webSocketOptions.deflate = nil  // no compression
}

/// GrenacheIO.md
func loops(
  _ configuration: PeerRPCServerConfiguration, _ hello: RPCService, _ link: Link
) throws -> PeerRPCServer {
  let group = try EventLoopGroup(count: 2)
  let server = PeerRPCServer(configuration, services: [hello], link: link, group: group)
  return server
}

/// GrenacheTLS.md
func certificates(_ pin: [UInt8], _ backupPin: [UInt8]) -> TLSConfiguration {
  var tls = TLSConfiguration.directory("/etc/hello/tls")
  tls.protocols = .modern  // TLS 1.3 only
  tls.clientVerification = .publicKeyPins([pin, backupPin])  // beside the roots
  tls.sessions?.sharedSecretFile = "/etc/hello/ticket-secret"
  return tls
}

/// GrenacheTransport.md
func transport(
  _ tls: TLSConfiguration, _ page: @escaping @Sendable (String) -> Void
) -> PeerRPCServerConfiguration {
  var configuration = PeerRPCServerConfiguration(port: 1337, tls: tls)
  configuration.transport.connectionsMax = 5_000
  configuration.transport.webSocket.messageBytesMax = 4 << 20
  configuration.tlsReloaded = { outcome in
    if case .failed(let error) = outcome { page(error.description) }
  }
  return configuration
}
