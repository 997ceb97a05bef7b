import Foundation
import TestSupport
import Testing

@testable import GrenacheTLS

/// Writing the files of tests.
enum GrenacheTLSTestFiles {
  static func write(_ bytes: [UInt8], to path: String, mode: Int = 0o600) throws {
    try Data(bytes).write(to: URL(filePath: path))
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
  }

  static func read(_ path: String) throws -> [UInt8] {
    try Array(Data(contentsOf: URL(filePath: path)))
  }
}

@Suite("RFC 6066 §8 Certificate status is stapled by servers and checked by clients")
struct TLSStaplingTests {
  private func configuration(_ name: String, status: String? = nil) throws -> TLSConfiguration {
    var configuration = try GeneratedCertificates.configuration(name)
    if let status {
      configuration.certificateStatus = .file(
        try GeneratedCertificates.directory(status) + "/status.der")
    }
    return configuration
  }

  private func connect(
    _ server: TLSConfiguration, stapling: TLSStapling = .checkedWhenPresent,
    later: Int64 = 0, isChecked: Bool = true
  ) throws -> EnginePair {
    var client = try GeneratedCertificates.configuration("client")
    client.stapling = stapling
    let context = try TLSContext(
      client, isChecked: true, clock: { Int64(Date().timeIntervalSince1970) + later })
    let pair = try EnginePair(client: context, server: TLSContext(server, isChecked: isChecked))
    pair.run()
    return pair
  }

  @Test("a good status is stapled, and enough where one is required")
  func good() throws {
    let server = try configuration("stapled", status: "stapled")
    #expect(try connect(server).client.isDone)
    #expect(try connect(server, stapling: .required).client.isDone)
  }

  @Test("a revoked one is told to clients, who refuse it")
  func revoked() throws {
    let pair = try connect(configuration("revoked", status: "revoked"))
    #expect(pair.client.failure?.code == .revoked)
    #expect(pair.client.failure?.subject == "CN=revoked")
    #expect("\(try #require(pair.client.failure))".contains("status: revoked"))
    #expect(!pair.server.isDone)
  }

  @Test("none: refused where one is required, by the client or by the certificate (RFC 7633)")
  func none() throws {
    #expect(try connect(configuration("server")).client.isDone)
    for pair in [
      try connect(configuration("server"), stapling: .required),
      try connect(configuration("stapled")),
    ] {
      #expect(pair.client.failure?.code == .revocationUnknown)
      #expect("\(try #require(pair.client.failure))".contains("none is stapled"))
    }
  }

  @Test("one that is out of date is refused by a client")
  func outOfDate() throws {
    let server = try configuration("stapled", status: "stapled")
    let years: Int64 = 11 * 365 * 86_400
    for later in [years, -86_400] {
      let pair = try connect(server, later: later)
      #expect(pair.client.failure?.code == .revocationUnknown)
      #expect("\(try #require(pair.client.failure))".contains("out of date"))
    }
  }

  @Test(
    "who may sign: the issuer, and whom it has appointed for that (RFC 6960 §4.2.2.2)",
    arguments: [
      ("appointed", nil), ("not-appointed", "not signed by"), ("by-itself", "not signed by"),
      ("by-a-stranger", "not signed by"), ("unknown", "unknown to the responder"),
    ] as [(String, String?)])
  func signers(_ name: String, _ reason: String?) throws {
    var server = try configuration("stapled")
    server.certificateStatus = .file(
      try GeneratedCertificates.directory("status") + "/\(name).der")
    let loaded = Result { try TLSContext(server) }
    let pair = try connect(server, stapling: .required, isChecked: reason == nil)
    #expect(pair.client.isDone == (reason == nil))
    guard let reason else {
      #expect(throws: Never.self) { try loaded.get() }
      return
    }
    #expect(pair.client.failure?.code == .revocationUnknown)
    #expect("\(try #require(pair.client.failure))".contains(reason))
    let error = #expect(throws: TLSConfigurationError.self) { try loaded.get() }
    #expect(error?.faults.first?.reason.contains(reason) == true)
  }

  @Test("without an end, a status is good for five minutes, and clocks may differ by five")
  func withoutEnd() throws {
    var server = try configuration("stapled")
    let path = try GeneratedCertificates.directory("status") + "/without-end.der"
    server.certificateStatus = .file(path)
    let made = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
    let age = Int64(Date().timeIntervalSince(try #require(made)))
    for (later, isGood) in [(0, true), (200, true), (400, false), (5 * 365 * 86_400, false)] {
      let pair = try connect(server, later: Int64(later) - age, isChecked: false)
      #expect(pair.client.isDone == isGood, "after \(later) s")
    }
  }

  @Test("with revocation lists, too, and through an authority between leaf and root")
  func withLists() throws {
    let status = try GeneratedCertificates.directory("status")
    var server = try configuration("intermediate")
    server.certificateStatus = .file("\(status)/intermediate.der")
    var client = try GeneratedCertificates.configuration("client")
    client.stapling = .required
    client.revocationLists = .file("\(status)/issuer-crl.pem")
    let pair = try EnginePair(client: client, server: server)
    pair.run()
    #expect(pair.client.isDone, "\(pair.client.failure as Any)")
  }

  @Test("one that is out of date is loaded with the rest, and not sent")
  func stale() throws {
    let path = try GeneratedCertificates.directory("status") + "/without-end.der"
    var server = try configuration("server")
    let stapled = try configuration("stapled")
    server.certificate = stapled.certificate
    server.key = stapled.key
    server.certificateStatus = .file(path)
    let context = try TLSContext(
      server, isChecked: true, clock: { Int64(Date().timeIntervalSince1970) + 3_600 })
    #expect(context.isStatusOutOfDate)
    let client = try TLSContext(GeneratedCertificates.configuration("client"))
    let pair = try EnginePair(client: client, server: context)
    pair.run()
    #expect("\(try #require(pair.client.failure))".contains("none is stapled"))
  }

  @Test("a server does not load what is none, another's, or changed, and says which file")
  func faults() throws {
    let good = try GrenacheTLSTestFiles.read(
      GeneratedCertificates.directory("stapled") + "/status.der")
    var changed = good
    changed[40] ^= 1
    for (status, reason) in [
      (TLSConfiguration.Source.der(Array("nonsense".utf8)), "at byte 0 an element of 111 bytes"),
      (.der([0x30, 0x00]), "not a successful OCSP response"),
      (.der(changed), "not"), (.pem("nonsense"), "no OCSP response"),
      (.file(try GeneratedCertificates.directory("client") + "/status.der"), "of another"),
      (.file("/nowhere/status.der"), "does not exist"),
    ] {
      var server = try configuration("stapled")
      server.certificateStatus = status
      let error = #expect(throws: TLSConfigurationError.self) { try TLSContext(server) }
      #expect(error?.faults.count == 1)
      #expect(error?.faults.first?.source == status.description)
      #expect(error?.faults.first?.reason.contains(reason) == true, "\(error as Any)")
    }
    for cut in stride(from: 0, to: good.count, by: 7) {
      var server = try configuration("stapled")
      server.certificateStatus = .der(Array(good[..<cut]))
      #expect(throws: TLSConfigurationError.self) { try TLSContext(server) }
    }
  }
}

@Suite("TLS configuration: closures, authorities that were revoked, providers, key log")
struct TLSChoicesTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("RFC 6066 §3 a closure chooses the certificate by name, or refuses")
  func chooser() throws {
    var server = try authority.host()
    let further = try authority.authority.configuration(
      for: .init(commonName: "further", dnsNames: ["a.test"]))
    server.furtherIdentities = [.init(certificate: further.certificate, key: further.key)]
    server.identityChooser = TLSIdentityChooser { name in
      switch name {
      case "one.test": .further(0)
      case "seven.test": .further(7)
      case "main.test": .main
      case "no.test": .refuse
      default: .byName
      }
    }
    let context = try TLSContext(server)
    for (name, subject) in [
      ("one.test", "CN=further"), ("a.test", "CN=further"), ("seven.test", "CN=host"),
      ("main.test", "CN=host"), ("other.test", "CN=host"), (nil, "CN=host"), ("no.test", nil),
    ] as [(String?, String?)] {
      let pair = EnginePair(
        client: try .init(
          TLSContext(authority.client()),
          .client(serverName: name, verification: .anyPeerThatTheRootsVouchFor)),
        server: try .init(context, .server))
      pair.run()
      #expect(pair.client.engine.peerIdentity?.subject == subject, "\(name ?? "none")")
      #expect((pair.client.failure?.alert?.number == 112) == (subject == nil))
    }
  }

  @Test("a closure verifies, with the whole identity before it, on both sides")
  func closure() throws {
    let isHost = PeerVerification.custom("a host with a chain of one") { peer in
      peer.names.contains(.dns("localhost")) && peer.chain.count == 1
        && peer.issuerPublicKeysSHA256.count == 1
    }
    let refusesAll = PeerVerification.custom("nobody at all") { _ in false }
    for (verification, isAccepted) in [
      (isHost, true), (refusesAll, false), (.all([isHost, .name("localhost")]), true),
      (.all([isHost, .name("other.test")]), false), (.all([]), false),
    ] {
      let pair = try EnginePair(
        client: authority.client(), server: authority.host(), verification: verification)
      pair.run()
      #expect(pair.client.isDone == isAccepted, "\(verification)")
      guard !isAccepted else { continue }
      #expect(pair.client.failure?.code == .nameMismatch)
      #expect(pair.client.failure?.expectedNames == verification.expectedNames)
    }
    var server = try authority.host()
    server.clientVerification = refusesAll
    let pair = try EnginePair(client: authority.client(), server: server)
    pair.run()
    #expect(pair.server.failure?.code == .nameMismatch)
    #expect("\(try #require(pair.server.failure))".contains("nobody at all"))
  }

  @Test("an authority between leaf and root that its issuer has revoked")
  func revokedAuthority() throws {
    let peer = try TLSContext(GeneratedCertificates.configuration("intermediate"))
    let strict = try GeneratedCertificates.configuration("checks-authorities")
    let asServer = try EnginePair(client: peer, server: TLSContext(strict))
    asServer.run()
    let asClient = try EnginePair(client: TLSContext(strict), server: peer)
    asClient.run()
    for failure in [asServer.server.failure, asClient.client.failure] {
      #expect(failure?.code == .revoked)
      #expect(failure?.depth == 1)
      #expect(failure?.subject == "CN=Grenache test intermediate CA")
    }
    let lax = TLSConfiguration(
      certificate: strict.certificate, key: strict.key, roots: strict.roots)
    let context = try TLSContext(lax)
    let open = try EnginePair(client: peer, server: context)
    open.run()
    let identity = try #require(open.server.engine.peerIdentity)
    try context.reload(strict)
    let error = try #require(context.current.recheck(identity, side: .server))
    #expect(error.code == .revoked)
    // The authority is at fault, not the leaf.
    #expect(error.depth == 1)
    #expect(error.subject == "CN=Grenache test intermediate CA")
    #expect(error.issuer == "CN=Grenache test CA")
  }

  @Test(
    "a revocation list that is missing, out of date or not signed by the issuer: nobody is let in",
    arguments: ["good", "expired", "of-another", "changed"], [true, false])
  func listsOfNoUse(_ name: String, isServer: Bool) throws {
    var strict = try GeneratedCertificates.configuration("server")
    let folder = try GeneratedCertificates.directory("lists")
    if name == "changed" {
      let text = try String(contentsOfFile: "\(folder)/good.pem", encoding: .utf8)
      let lines = text.split(separator: "\n").filter { !$0.contains("-----") }
      var bytes = Array(try #require(Data(base64Encoded: lines.joined())))
      bytes[bytes.count - 1] ^= 1
      strict.revocationLists = .der(bytes)
    } else {
      strict.revocationLists = .file("\(folder)/\(name).pem")
    }
    let peer = try GeneratedCertificates.configuration("client")
    let pair = try EnginePair(client: isServer ? peer : strict, server: isServer ? strict : peer)
    pair.run()
    let judge = isServer ? pair.server : pair.client
    #expect(judge.isDone == (name == "good"))
    if name != "good" {
      #expect(judge.failure?.code == .revocationUnknown, "\(judge.failure as Any)")
    }
  }

  @Test("P18 keys are logged only by an option with a long name, to a file of the user's own")
  func keyLog() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/keys"
    var client = try authority.client()
    client.insecureKeyLogFile = path
    let pair = try EnginePair(client: client, server: authority.host())
    pair.run()
    #expect(pair.client.isDone)
    let text = String(decoding: try GrenacheTLSTestFiles.read(path), as: UTF8.self)
    let lines = text.split(separator: "\n")
    #expect(lines.contains { $0.hasPrefix("CLIENT_TRAFFIC_SECRET_0 ") })
    #expect(lines.allSatisfy { $0.split(separator: " ").count == 3 })
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    #expect((attributes[.posixPermissions] as? Int) == 0o600)
    try GrenacheTLSTestFiles.write([], to: "\(folder.path)/open", mode: 0o644)
    let manager = FileManager.default
    try manager.createSymbolicLink(atPath: "\(folder.path)/link", withDestinationPath: path)
    for bad in ["/nowhere/keys", "\(folder.path)/open", "\(folder.path)/link", folder.path] {
      client.insecureKeyLogFile = bad
      let error = #expect(throws: TLSConfigurationError.self) { try TLSContext(client) }
      #expect(error?.faults.first?.source == bad)
    }
  }

  @Test("P42 the query of a store's URI, which may hold a PIN, is in no message")
  func storeURI() throws {
    var configuration = try authority.client()
    configuration.key = .store("file:/nowhere/key?pin-value=4711")
    let error = #expect(throws: TLSConfigurationError.self) { try TLSContext(configuration) }
    #expect(error?.faults.first?.source == "file:/nowhere/key")
    #expect(!"\(error as Any)\(configuration.key)".contains("4711"))
  }

  @Test("a store holds at most 1,000 objects, so that none is left out in silence")
  func storeLimit() throws {
    let folder = try TemporaryFolder()
    guard case .pem(let text) = try authority.client().roots else { return }
    var configuration = try authority.client()
    let path = "\(folder.path)/roots.pem"
    configuration.roots = .store("file:\(path)")
    for (count, isGood) in [(1_000, true), (1_001, false)] {
      let pem = Array(String(repeating: text, count: count).utf8)
      try GrenacheTLSTestFiles.write(pem, to: path)
      #expect(((try? TLSContext(configuration)) != nil) == isGood, "\(count)")
    }
  }

  @Test("looking for changes: every 10 ms at most")
  func intervals() throws {
    for (milliseconds, isGood) in [(0, false), (9, false), (10, true)] {
      for keyPath in [\TLSConfiguration.reloadInterval, \.reloadPeriod] {
        var configuration = try authority.client()
        configuration[keyPath: keyPath] = .milliseconds(milliseconds)
        #expect(((try? TLSContext(configuration)) != nil) == isGood, "\(milliseconds) ms")
      }
    }
  }

  @Test("a provider that is not there is a fault that names it; nothing else changes")
  func providers() throws {
    let error = #expect(throws: TLSConfigurationError.self) {
      try TLSProviders.load(["no-such-provider", "default", "nor-this"])
    }
    #expect(
      error?.faults.map(\.source) == ["provider no-such-provider", "provider nor-this"])
    let pair = try EnginePair(client: authority.client(), server: authority.host())
    pair.run()
    #expect(pair.client.isDone)
    #expect(!TLSProviders.isFIPSRequired)
  }
}
