import Foundation
import TestSupport
import Testing

@testable import GrenacheTLS

/// One bad certificate, and what a good peer says of it.
private struct BadCase: Sendable, CustomTestStringConvertible {
  var name: String
  var code: TLSError.Code
  var version: TLSProtocols.Version
  var isServer: Bool

  var testDescription: String {
    "\(name) as \(isServer ? "server" : "client"), \(version == .tls12 ? "TLS 1.2" : "TLS 1.3")"
  }

  /// Every case of the matrix.
  static let all: [BadCase] = {
    let kinds: [(String, TLSError.Code, sides: [Bool])] = [
      ("expired", .expired, [true, false]), ("not-yet-valid", .notYetValid, [true, false]),
      ("unknown-ca", .unknownAuthority, [true, false]),
      ("self-signed", .selfSigned, [true, false]),
      ("missing-intermediate", .unknownAuthority, [true, false]),
      ("expired-intermediate", .expired, [true, false]),
      ("other-intermediate", .unknownAuthority, [true, false]),
      ("revoked", .revoked, [true, false]), ("weak-rsa", .tooWeak, [true, false]),
      ("sha1", .tooWeak, [true, false]), ("client-only", .wrongUsage, [true]),
      ("server-only", .wrongUsage, [false]), ("no-san", .nameMismatch, [true]),
      ("other-worker", .nameMismatch, [true]), ("none", .noCertificate, [false]),
    ]
    return kinds.flatMap { name, code, sides in
      sides.flatMap { side in
        [TLSProtocols.Version.tls12, .tls13].map {
          BadCase(name: name, code: code, version: $0, isServer: side)
        }
      }
    }
  }()

  /// The configuration with the bad certificate.
  func bad() throws -> TLSConfiguration {
    var configuration = try GeneratedCertificates.configuration(name == "none" ? "client" : name)
    if name == "none" {
      configuration.certificate = .pem("")
      configuration.key = .pem("")
    }
    configuration.protocols.maximum = version
    return configuration
  }
}

@Suite("P17 Bad certificates are refused with the cause named: the matrix")
struct CertificateMatrixTests {
  @Test("each kind, on each side, in each version", arguments: BadCase.all)
  private func matrix(_ one: BadCase) throws {
    let bad = try TLSContext(one.bad(), isChecked: false)
    // The intermediate authority has no list, which is another cause.
    let isRevocationChecked = !["expired-intermediate", "other-intermediate"].contains(one.name)
    let good = try TLSContext(
      GeneratedCertificates.configuration(isRevocationChecked ? "checks-revocation" : "server"))
    let windows = try (
      EnginePair.End(
        one.isServer ? good : bad,
        .client(
          serverName: nil,
          verification: one.isServer ? .service("rpc_test") : .anyPeerThatTheRootsVouchFor)),
      EnginePair.End(one.isServer ? bad : good, .server)
    )
    let pair = EnginePair(client: windows.0, server: windows.1)
    pair.run()
    let judge = one.isServer ? pair.client : pair.server
    let judged = one.isServer ? pair.server : pair.client
    let failure = try #require(judge.failure, "\(one.testDescription) was accepted")
    #expect(failure.code == one.code, "\(failure)")
    #expect(failure.side == (one.isServer ? .client : .server))
    #expect(failure.stage == .handshake)
    #expect(failure.description.count > 40)
    if one.code != .noCertificate { #expect(!failure.subject.isEmpty) }
    // The other end is told, and says so; in TLS 1.3 a client may believe that it is done before.
    #expect(judged.failure?.alert != nil, "\(String(describing: judged.failure))")
  }

  @Test(
    "a weak key is refused whatever level the system or a cipher list asks for",
    arguments: [0, 1, 3], [true, false])
  func levels(_ level: Int, isServer: Bool) throws {
    let weak = try TLSContext(GeneratedCertificates.configuration("weak-rsa"), isChecked: false)
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.protocols.tls12Ciphers.append("@SECLEVEL=\(level)")
    let good = try TLSContext(configuration)
    let pair = try EnginePair(client: isServer ? good : weak, server: isServer ? weak : good)
    pair.run()
    let failure = (isServer ? pair.client : pair.server).failure
    #expect(failure?.code == .tooWeak, "\(failure as Any)")
  }

  @Test("the matrix has at least 40 cases")
  func count() { #expect(BadCase.all.count >= 40) }
}

@Suite("TLS configuration: formats, trust, protocols")
struct TLSFormatTests {
  private let secret = TLSPassphrase { _ in "secret" }

  private func file(_ name: String) throws -> TLSConfiguration.Source {
    .file(try GeneratedCertificates.directory("formats") + "/\(name)")
  }

  private func isAccepted(_ configuration: TLSConfiguration) throws -> Bool {
    let pair = try EnginePair(
      client: TLSContext(GeneratedCertificates.configuration("client")),
      server: TLSContext(configuration))
    pair.run()
    return pair.client.isDone && pair.server.isDone
  }

  @Test("DER, in a file and in memory, and an encrypted key")
  func der() throws {
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.certificate = try file("cert.der")
    configuration.key = try file("key.der")
    #expect(try isAccepted(configuration))
    let path = try GeneratedCertificates.directory("formats") + "/cert.der"
    configuration.certificate = .der(Array(try Data(contentsOf: URL(filePath: path))))
    configuration.key = try file("key-encrypted.pem")
    configuration.passphrase = secret
    #expect(try isAccepted(configuration))
  }

  @Test("PKCS#12 holds the leaf, its chain, and the key")
  func pkcs12() throws {
    var configuration = try GeneratedCertificates.configuration("intermediate")
    configuration.certificate = try file("bundle.p12")
    configuration.key = try file("bundle.p12")
    configuration.passphrase = secret
    #expect(try isAccepted(configuration))
  }

  @Test("a key by the URI of a store")
  func store() throws {
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.key = .store("file:\(try GeneratedCertificates.directory("server"))/key.pem")
    #expect(try isAccepted(configuration))
    configuration.key = .store("file:/nowhere/key.pem")
    let error = #expect(throws: TLSConfigurationError.self) { try TLSContext(configuration) }
    #expect(error?.faults.first?.source == "file:/nowhere/key.pem")
  }

  @Test("a wrong passphrase, and none", arguments: ["key-encrypted.pem", "bundle.p12"])
  func passphrases(_ name: String) throws {
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.key = try file(name)
    for passphrase in [nil, TLSPassphrase { _ in "wrong" }, TLSPassphrase { _ in nil }] {
      configuration.passphrase = passphrase
      let error = #expect(throws: TLSConfigurationError.self) { try TLSContext(configuration) }
      #expect(error?.faults.first?.source.hasSuffix(name) == true)
      #expect(error?.faults.first?.remedy.contains("passphrase") == true, "\(error as Any)")
    }
  }

  @Test(
    "mutated DER and PKCS#12 give faults and never end the process",
    arguments: [
      "cert.der", "key.der", "bundle.p12",
    ])
  func mutations(_ name: String) throws {
    var generator = SeededGenerator(seed: 11)
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.passphrase = secret
    let path = try GeneratedCertificates.directory("formats") + "/\(name)"
    let bytes = Array(try Data(contentsOf: URL(filePath: path)))
    for _ in 0..<100 {
      var mutated = bytes
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<mutated.count, using: &generator)
        mutated[index] = UInt8.random(in: 0...255, using: &generator)
      }
      if Bool.random(using: &generator) { mutated.removeLast(mutated.count / 3) }
      if name == "key.der" {
        configuration.key = .der(mutated)
      } else {
        configuration.certificate = .der(mutated)
      }
      _ = try? TLSContext(configuration)
    }
  }

  @Test("without roots there is a fault; the system's authorities can be used")
  func trust() throws {
    var configuration = try GeneratedCertificates.configuration("server")
    configuration.roots = nil
    let error = #expect(throws: TLSConfigurationError.self) { try TLSContext(configuration) }
    #expect(error?.faults.map(\.source) == ["roots"])
    configuration.usesSystemRoots = true
    // Nobody there knows the test's authority.
    #expect(try !isAccepted(configuration))
    configuration.roots = try GeneratedCertificates.configuration("server").roots
    #expect(try isAccepted(configuration))
  }

  @Test(
    "versions, suites and groups are what was asked for",
    arguments: [
      TLSProtocols.modern, .intermediate,
    ])
  func protocols(_ protocols: TLSProtocols) throws {
    for (maximum, version) in [(TLSProtocols.Version.tls12, "TLSv1.2"), (.tls13, "TLSv1.3")] {
      var client = try GeneratedCertificates.configuration("client")
      client.protocols.maximum = maximum
      var server = try GeneratedCertificates.configuration("server")
      server.protocols = protocols
      let pair = try EnginePair(client: TLSContext(client), server: TLSContext(server))
      pair.run()
      if maximum == .tls12, protocols == .modern {
        #expect(pair.server.failure?.code == .nothingShared)
        #expect(pair.client.failure?.code == .nothingShared)
      } else {
        #expect(pair.client.engine.negotiated?.version == version)
      }
    }
  }

  @Test("a name that OpenSSL does not know is a fault that names it")
  func unknown() throws {
    for change: (inout TLSProtocols) -> Void in [
      { $0.cipherSuites = ["TLS_ROT13"] }, { $0.tls12Ciphers = ["ROT13"] }, { $0.groups = ["X"] },
      {
        $0.maximum = .tls12; $0.minimum = .tls13
      },
    ] {
      var configuration = try GeneratedCertificates.configuration("server")
      change(&configuration.protocols)
      #expect(throws: TLSConfigurationError.self) { try TLSContext(configuration) }
    }
  }

  @Test("RFC 6066 §3 a client gets the certificate of the name that it asks for")
  func serverNames() throws {
    let authority = try TestAuthority()
    func identity(_ names: String...) throws -> TLSConfiguration.Identity {
      let made = try authority.authority.configuration(
        for: .init(commonName: names[0], dnsNames: names))
      return .init(certificate: made.certificate, key: made.key)
    }
    var server = try authority.host()
    server.furtherIdentities = [
      try identity("a.test", "b.test"), try identity("*.wild.test"), try identity("a.test"),
    ]
    let context = try TLSContext(server)
    for (name, subject) in [
      ("a.test", "CN=a.test"), ("B.test", "CN=a.test"), ("x.wild.test", "CN=*.wild.test"),
      ("wild.test", "CN=host"), ("other.test", "CN=host"), (nil, "CN=host"),
    ] as [(String?, String)] {
      let pair = EnginePair(
        client: try .init(
          TLSContext(authority.client()),
          .client(serverName: name, verification: .anyPeerThatTheRootsVouchFor)),
        server: try .init(context, .server))
      pair.run()
      #expect(pair.client.engine.peerIdentity?.subject == subject, "\(name ?? "none")")
      // Whichever it is, the client is asked for its own.
      #expect(pair.server.engine.peerIdentity?.names == [.dns("client.test")])
    }
    server.furtherIdentities[1].key = server.key
    server.key = .pem("")
    let error = #expect(throws: TLSConfigurationError.self) { try context.reload(server) }
    #expect(error?.faults.count == 2, "the faults of all of them: \(error as Any)")
  }

  @Test("client certificates: required, optional, none")
  func clientCertificates() throws {
    var none = try GeneratedCertificates.configuration("client")
    none.certificate = .pem("")
    none.key = .pem("")
    for (mode, withOne, withNone) in [
      (TLSConfiguration.ClientCertificates.required, true, false), (.optional, true, true),
      (.none, false, true),
    ] {
      var server = try GeneratedCertificates.configuration("server")
      server.clientCertificates = mode
      let context = try TLSContext(server)
      let one = try EnginePair(
        client: TLSContext(GeneratedCertificates.configuration("client")), server: context)
      one.run()
      #expect(one.server.isDone)
      #expect((one.server.engine.peerIdentity != nil) == withOne)
      let other = try EnginePair(client: TLSContext(none, isChecked: false), server: context)
      other.run()
      #expect(other.server.isDone == withNone)
      #expect(other.server.engine.peerIdentity == nil)
      // Whoever shows a certificate must show a good one.
      let stranger = try EnginePair(
        client: TLSContext(GeneratedCertificates.configuration("unknown-ca")), server: context)
      stranger.run()
      #expect(stranger.server.isDone == (mode == .none))
    }
  }
}

@Suite("Development authority")
struct CertificateAuthorityTests {
  @Test("kept in a folder, it issues, renews with the same names, and revokes")
  func lifecycle() throws {
    let folder = try TemporaryFolder()
    try CertificateAuthority().write(toDirectory: "\(folder.path)/ca")
    let authority = try CertificateAuthority(directory: "\(folder.path)/ca")
    var leaf = CertificateAuthority.Leaf(
      commonName: "worker", dnsNames: ["a.test"], ipAddresses: ["127.0.0.1", "::1"],
      services: ["rest:*", "a b"])
    leaf.uris = ["grenache:star%2A"]
    let names = ["worker", "peer"].map { "\(folder.path)/\($0)" }
    for name in names { try authority.write(leaf, toDirectory: name) }
    let before = try CertificateFile("\(names[0])/cert.pem").certificates[0]
    try authority.renew(inDirectory: names[0])
    let after = try CertificateFile("\(names[0])/cert.pem").certificates[0]
    #expect(after.names == before.names)
    #expect(after.names.count == 6)
    #expect(after.subject == "CN=worker")
    #expect(after.publicKeySHA256 != before.publicKeySHA256)
    let list = "\(folder.path)/ca/crl.pem"
    for (name, count) in [(names[0], 1), (names[0], 1), (names[1], 2)] {
      let text = try authority.revoke("\(name)/cert.pem", list: list)
      try text.write(toFile: list, atomically: true, encoding: .utf8)
      #expect(try CertificateFile(list).revocationLists.map(\.revokedCount) == [count])
    }
    var server = try authority.configuration(for: leaf)
    server.revocationLists = .file(list)
    for (client, isAccepted) in [
      (TLSConfiguration.directory(names[1]), false),
      (try authority.configuration(for: leaf), true),
    ] {
      let pair = try EnginePair(client: TLSContext(client), server: TLSContext(server))
      pair.run()
      #expect(pair.server.isDone == isAccepted)
      if !isAccepted { #expect(pair.server.failure?.code == .revoked) }
    }
  }

  @Test("what another authority has issued, or listed, is not revoked: also one of the same name")
  func strangers() throws {
    let folder = try TemporaryFolder()
    let (own, other) = (try CertificateAuthority(), try CertificateAuthority())
    let elsewhere = try CertificateAuthority(commonName: "another")
    for (name, authority) in [("own", own), ("other", other), ("elsewhere", elsewhere)] {
      try authority.write(.init(commonName: name), toDirectory: "\(folder.path)/\(name)")
    }
    let list = "\(folder.path)/crl.pem"
    for name in ["other", "elsewhere"] {
      let file = "\(folder.path)/\(name)/cert.pem"
      let error = #expect(throws: CertificateAuthority.Failure.self) {
        try own.revoke(file, list: list)
      }
      #expect(error?.description.hasPrefix("\(file) was not issued by this authority") == true)
    }
    for (authority, name) in [(other, "other"), (elsewhere, "elsewhere")] {
      try authority.revoke("\(folder.path)/\(name)/cert.pem", list: list)
        .write(toFile: list, atomically: true, encoding: .utf8)
      let error = #expect(throws: CertificateAuthority.Failure.self) {
        try own.revoke("\(folder.path)/own/cert.pem", list: list)
      }
      #expect(error?.description.hasPrefix("\(list) is not a revocation list of this") == true)
      try folder.remove("crl.pem")
    }
    #expect(try own.revoke("\(folder.path)/own/cert.pem", list: list).contains("X509 CRL"))
  }

  @Test("a folder without an authority is named")
  func none() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: TLSConfigurationError.self) {
      try CertificateAuthority(directory: folder.path)
    }
    #expect(error?.description.contains("\(folder.path)/ca.pem") == true)
  }
}
