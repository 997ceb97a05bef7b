import Foundation
import GrenacheTLS
import TestSupport
import Testing

@Suite(
  "TLS in operation: signals, metrics, trust stores, other implementations", .timeLimit(.minutes(2))
)
struct TLSOperationTests {
  /// A grape with a certificate and a policy of its own in a folder.
  private struct Grape {
    let folder: TemporaryFolder
    let authority: TestAuthority
    let command: RunningCommand
    let api: String

    static let leaf = CertificateAuthority.Leaf(
      commonName: "grape", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"])

    init() async throws {
      folder = try TemporaryFolder()
      authority = try TestAuthority()
      try authority.authority.write(Self.leaf, toDirectory: "\(folder.path)/grape")
      try authority.authority.write(
        .init(commonName: "client", dnsNames: ["client.test"]),
        toDirectory: "\(folder.path)/client")
      try Self.write("rules: []\n", "\(folder.path)/policy.yaml")
      command = try RunningCommand(
        Programs.grape,
        [
          "--dp", "0", "--aph", "0", "--bn", "", "-b", "127.0.0.1", "--json", "--tls-dir",
          "\(folder.path)/grape", "--access-policy", "\(folder.path)/policy.yaml",
        ])
      api = member("api", of: await command.firstLine())
    }

    static func write(_ text: String, _ path: String) throws {
      try text.write(toFile: path, atomically: true, encoding: .utf8)
    }

    var metrics: String {
      get async throws {
        try await run(
          Programs.curl, "-s", "--cacert", "\(folder.path)/grape/ca.pem", "--cert",
          "\(folder.path)/client/cert.pem", "--key", "\(folder.path)/client/key.pem",
          "https://\(api)/metrics"
        ).output
      }
    }

    /// Makes a change, sends SIGHUP and waits for one more line with each of `texts`. The grape may have
    /// found the change by itself, and at the signal load nothing more.
    func reload(until texts: String..., after change: () throws -> Void = {}) async rethrows {
      let counts = texts.map { command.errors.components(separatedBy: $0).count - 1 }
      try change()
      kill(command.processIdentifier, SIGHUP)
      for (text, count) in zip(texts, counts) {
        #expect(await command.says(text, times: count + 1), "\(text): \(command.errors)")
      }
    }

    /// The end of validity of the certificate in use, as `/metrics` shows it.
    func expiry() async throws -> Int64? {
      let name = "grenache_tls_certificate_not_after_seconds{role=\"grape\"} "
      let line = try await metrics.split(separator: "\n").first { $0.hasPrefix(name) }
      return line.flatMap { Double($0.dropFirst(name.count)) }.map { Int64($0) }
    }
  }

  @Test("P21 SIGHUP loads certificates and policy again, and what cannot be used changes nothing")
  func hangUp() async throws {
    let grape = try await Grape()
    let cert = "\(grape.folder.path)/grape/cert.pem"
    // Nothing has changed: that they are loaded is the signal's doing.
    try await grape.reload(until: "certificates loaded", "access policy loaded")
    let first = try #require(CertificateFile(cert).certificates.first)
    #expect(try await grape.expiry() == first.notAfter)
    var leaf = Grape.leaf
    leaf.lifetime = .seconds(5 * 86_400)
    let renewed = leaf
    try await grape.reload(until: "certificates loaded") {
      try grape.authority.authority.write(renewed, toDirectory: "\(grape.folder.path)/grape")
    }
    let second = try #require(CertificateFile(cert).certificates.first)
    #expect(second.notAfter < first.notAfter)
    #expect(try await grape.expiry() == second.notAfter)
    let probe = try await run(
      Programs.grenache, "tls", "probe", grape.api, "--json", "--tls-dir",
      "\(grape.folder.path)/client")
    #expect(probe.output.contains(Digest.hex(second.publicKeySHA256)), "\(probe.output)")
    // No rule allows a lookup yet.
    let lookup = [
      "lookup", "rpc_test", "--grape", grape.api, "--tls-dir", "\(grape.folder.path)/client",
    ]
    #expect(try await run(Programs.grenache, lookup).status == 77)
    try await grape.reload(until: "access policy loaded") {
      try Grape.write(
        "rules:\n  - allow: lookup\n    keys: [\"*\"]\n    to: anyone\n",
        "\(grape.folder.path)/policy.yaml")
    }
    #expect(try await run(Programs.grenache, lookup).status == 69)
    // A set that cannot be used is logged, counted, and not used.
    try await grape.reload(
      until: "certificates cannot be loaded", "access policy cannot be loaded"
    ) {
      try Grape.write("no key", "\(grape.folder.path)/grape/key.pem")
      try Grape.write("rules: 5", "\(grape.folder.path)/policy.yaml")
    }
    #expect(grape.command.errors.contains("grape/key.pem"))
    #expect(grape.command.errors.contains("policy.yaml:1"))
    let metrics = try await grape.metrics
    for what in ["certificates", "access policy"] {
      let line = metrics.split(separator: "\n").first {
        $0.hasPrefix("grenache_reloads_total") && $0.contains(what) && $0.contains("failed")
      }
      #expect(line != nil, "\(metrics)")
    }
    #expect(try await grape.expiry() == second.notAfter)
    #expect(try await run(Programs.grenache, lookup).status == 69)
    #expect(await grape.command.terminate() == 0)
  }

  @Test("SSL_CERT_FILE and SSL_CERT_DIR name the system's authorities, where these are asked for")
  func systemRoots() async throws {
    let grape = try await Grape()
    let other = try GeneratedCertificates.directory("client")
    let folder = "\(grape.folder.path)/authorities"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let root = "\(grape.folder.path)/grape/ca.pem"
    let hashed = try await run(Programs.openssl, "x509", "-in", root, "-noout", "-subject_hash")
    try FileManager.default.copyItem(atPath: root, toPath: "\(folder)/\(hashed.output).0")
    // Its own certificate is good for the grape; the roots that it names are those of others.
    let identity = [
      "tls", "probe", grape.api, "--json", "--tls-cert", "\(grape.folder.path)/client/cert.pem",
      "--tls-key", "\(grape.folder.path)/client/key.pem", "--tls-ca", "\(other)/ca.pem",
    ]
    for (options, environment, isTrusted) in [
      ([], ["SSL_CERT_FILE": root, "SSL_CERT_DIR": folder], false),
      (["--tls-system-roots"], ["SSL_CERT_FILE": root], true),
      (["--tls-system-roots"], ["SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": folder], true),
      (["--tls-system-roots"], ["SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": "/nowhere"], false),
    ] as [([String], [String: String], Bool)] {
      let ended = try await run(Programs.grenache, identity + options, environment: environment)
      #expect((ended.status == 0) == isTrusted, "\(environment): \(ended.output)")
      if !isTrusted { #expect(member("code", of: ended.output) == "unknownAuthority") }
    }
    _ = await grape.command.terminate()
  }

  private func startWorker() async throws -> (RunningCommand, String) {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--reply", "world",
        "--tls-dir", GeneratedCertificates.directory("worker"),
      ])
    return (worker, "127.0.0.1:" + port(of: member("address", of: await worker.firstLine())))
  }

  private func client(_ address: String, _ options: String...) throws -> RunningCommand {
    let client = try GeneratedCertificates.directory("client")
    return try RunningCommand(
      Programs.openssl,
      [
        "s_client", "-connect", address, "-CAfile", "\(client)/ca.pem", "-cert",
        "\(client)/cert.pem", "-key", "\(client)/key.pem",
      ] + options)
  }

  @Test("P24 renegotiation is refused")
  func renegotiation() async throws {
    let (worker, address) = try await startWorker()
    let client = try client(address, "-tls1_2")
    client.write("R\n")
    let ended = await client.end()
    #expect(ended.output.contains("Cipher is ECDHE-"), "\(ended.output)")
    #expect(ended.errors.contains("RENEGOTIATING"), "\(ended.errors)")
    #expect(ended.errors.contains("no renegotiation"), "\(ended.errors)")
    _ = await worker.terminate()
  }

  @Test("P24 a session allows no early data, and a client that wants to send some may not")
  func earlyData() async throws {
    let (worker, address) = try await startWorker()
    let folder = try TemporaryFolder()
    let (session, early) = ("\(folder.path)/session", "\(folder.path)/early")
    try "early".write(toFile: early, atomically: true, encoding: .utf8)
    let first = try client(address, "-sess_out", session)
    // The ticket comes behind the handshake, and before the answer, behind which the server closes.
    first.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    _ = await first.end()
    let shown = try await run(
      Programs.openssl, "sess_id", "-in", session, "-noout", "-text")
    #expect(shown.output.contains("Max Early Data: 0"), "\(shown.output)\(shown.errors)")
    let second = try client(address, "-sess_in", session, "-early_data", early)
    second.closeInput()
    let ended = await second.end()
    #expect(ended.output.contains("Reused, TLSv1.3"), "\(ended.output)")
    #expect(ended.output.contains("Early data was not sent"), "\(ended.output)")
    _ = await worker.terminate()
  }
}
