import COpenSSL
import TestSupport
import Testing

@testable import GrenacheTLS

@Suite("TLS engine: without a socket")
struct TLSEngineTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  func pair(_ verification: PeerVerification = .name("localhost")) throws -> EnginePair {
    try EnginePair(
      client: authority.client(), server: authority.host(), verification: verification)
  }

  @Test("both sides verify each other and agree on TLS 1.3", arguments: [Int.max, 1, 7, 100])
  func handshake(_ piece: Int) throws {
    let pair = try pair()
    pair.run(piece: piece)
    #expect(pair.client.isDone && pair.server.isDone)
    #expect(pair.server.engine.peerIdentity?.names == [.dns("client.test")])
    #expect(pair.client.engine.peerIdentity?.names.contains(.ip([127, 0, 0, 1])) == true)
    #expect(pair.client.engine.negotiated?.version == "TLSv1.3")
    #expect(pair.client.engine.peerIdentity?.fingerprintSHA256.count == 32)
    #expect(pair.client.engine.peerIdentity?.publicKeySHA256.count == 32)
  }

  @Test(
    "plaintext of all sizes arrives as it was sent",
    arguments: [1, 16_383, 16_384, 16_385, 100_000])
  func transfer(_ count: Int) throws {
    let pair = try pair()
    pair.run()
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    #expect(count <= TLSWindow.plaintextBytesMax)
    try pair.client.send(bytes)
    pair.run(piece: 1_000)
    #expect(pair.server.received == bytes)
    try pair.server.send(bytes)
    pair.run()
    #expect(pair.client.received == bytes)
  }

  @Test(
    "RFC 8446 §4.6.3 a peer may ask for new keys 32 times without data between, and not once more",
    arguments: [true, false], [true, false])
  func keyUpdates(byServer: Bool, wantsAnswer: Bool) throws {
    let pair = try pair()
    pair.run()
    let (from, to) = byServer ? (pair.server, pair.client) : (pair.client, pair.server)
    let kind = wantsAnswer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED
    func ask(_ count: Int) {
      for _ in 0..<count {
        #expect(SSL_key_update(from.engine.ssl, kind) == 1)
        #expect(SSL_do_handshake(from.engine.ssl) == 1)
      }
      to.feed(from.takeOutput())
    }
    for round in 1...3 {
      try from.send([1])
      ask(TLSEngine.messagesWithoutDataMax)
      #expect(to.failure == nil)
      #expect(to.received.count == round)
    }
    ask(1)
    #expect(to.failure?.code == .protocolViolated)
    #expect(to.failure?.description.contains("without data") == true)
  }

  @Test("P23 a stream cut at any byte is never taken for a whole one")
  func truncation() throws {
    let whole = try pair()
    whole.run()
    try whole.client.send(Array("all of it".utf8))
    whole.client.engine.closeNotify()
    let length = whole.client.takeOutput().count
    for cut in 0..<length {
      let pair = try pair()
      pair.run()
      try pair.client.send(Array("all of it".utf8))
      pair.client.engine.closeNotify()
      pair.server.feed(Array(pair.client.takeOutput().prefix(cut)))
      #expect(!pair.server.isClosed)
      #expect(pair.server.engine.endOfInput()?.code == .truncated)
    }
    whole.server.feed([])
  }

  @Test("close_notify says that everything has been sent")
  func closing() throws {
    let pair = try pair()
    pair.run()
    try pair.client.send([1, 2, 3])
    pair.client.engine.closeNotify()
    pair.run()
    #expect(pair.server.received == [1, 2, 3])
    #expect(pair.server.isClosed)
    #expect(pair.server.engine.endOfInput() == nil)
  }

  @Test("a record that was changed on the way is refused")
  func tampering() throws {
    let pair = try pair()
    pair.run()
    try pair.client.send(Array("hello".utf8))
    var bytes = pair.client.takeOutput()
    bytes[bytes.count - 1] ^= 1
    pair.server.feed(bytes)
    #expect(pair.server.failure?.code == .protocolViolated)
    #expect(pair.server.received.isEmpty)
  }

  @Test(
    "what is not TLS is named so",
    arguments: [
      "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0\0\0\0\0\0\0",
    ])
  func garbage(_ text: String) throws {
    let pair = try pair()
    pair.server.feed(Array(text.utf8))
    #expect(pair.server.failure?.code == .notTLS, "\(String(describing: pair.server.failure))")
  }

  @Test("garbage of all kinds ends the handshake and nothing else")
  func mutations() throws {
    var generator = SeededGenerator(seed: 3)
    let server = try TLSContext(authority.host())
    let client = try TLSContext(authority.client())
    for _ in 0..<300 {
      let one = try EnginePair.End(
        client, .client(serverName: nil, verification: .name("localhost")))
      let other = try EnginePair.End(server, .server)
      one.feed([])
      var hello = one.takeOutput()
      for _ in 0..<3 {
        let index = Int.random(in: 0..<hello.count, using: &generator)
        hello[index] = UInt8.random(in: 0...255, using: &generator)
      }
      other.feed(hello)
      one.feed(other.takeOutput())
      #expect(!other.isDone)
    }
  }
}

@Suite("TLS errors name the party and the cause, whichever library of OpenSSL found them")
struct TLSCauseTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test(
    "a certificate that cannot be read is the peer's, though TLS has reasons of the same number",
    arguments: [(-2, UInt8(0xff), "too long"), (-4, 0x10, "not constructed")])
  func unreadable(_ offset: Int, _ byte: UInt8, _ reason: String) throws {
    var host = try authority.host()
    host.protocols.maximum = .tls12  // whose certificates are in the clear
    let pair = try EnginePair(client: authority.client(), server: host)
    pair.client.feed([])
    pair.server.feed(pair.client.takeOutput())
    var flight = pair.server.takeOutput()
    // What follows the head of the SEQUENCE to be signed: version 3, and the serial number.
    let version = try #require(flight.firstRange(of: [0xa0, 3, 2, 1, 2, 2])).lowerBound
    flight[version + offset] = byte
    pair.client.feed(flight)
    let failure = try #require(pair.client.failure)
    #expect(failure.code == .badCertificate, "\(failure)")
    #expect(failure.reasons.contains { $0.contains(reason) }, "\(failure)")
    #expect(failure.alert == nil)
    pair.server.feed(pair.client.takeOutput())
    #expect(pair.server.failure?.code == .refusedByPeer)
  }

  @Test(
    "RFC 8446 §4.2.11 a client may offer four sessions; with five it is the client who is at fault",
    arguments: [1, 4, 5, 200])
  func tooManySessions(_ count: Int) throws {
    let pair = try EnginePair(client: authority.client(), server: authority.host())
    pair.client.feed([])
    pair.server.feed(Self.hello(pair.client.takeOutput(), offering: count))
    guard count > TLSEngine.ticketsMax else {
      #expect(pair.server.failure == nil, "\(pair.server.failure as Any)")
      return
    }
    let failure = try #require(pair.server.failure)
    #expect(failure.code == .protocolViolated)
    #expect(failure.alert == nil, "nobody has sent one: \(failure)")
    #expect(failure.reasons.first == "the client offers more than 4 sessions")
  }

  /// The record of a ClientHello with sessions that nobody knows.
  private static func hello(_ record: [UInt8], offering count: Int) -> [UInt8] {
    func counted(_ bytes: [UInt8]) -> [UInt8] {
      [UInt8(truncatingIfNeeded: bytes.count >> 8), UInt8(truncatingIfNeeded: bytes.count)] + bytes
    }
    let identity = counted([UInt8](repeating: 7, count: 40)) + [0, 0, 0, 0]
    let binder = [32] + [UInt8](repeating: 0, count: 32)
    let offered =
      counted((0..<count).flatMap { _ in identity })
      + counted((0..<count).flatMap { _ in binder })
    let body = Array(record[9...])
    var index = 34  // version and random
    index += 1 + Int(body[index])  // session
    index += 2 + Int(body[index]) << 8 + Int(body[index + 1])  // cipher suites
    index += 1 + Int(body[index])  // compression methods
    let extensions = Array(body[(index + 2)...]) + [0, 41] + counted(offered)
    let message = [1, 0] + counted(Array(body[..<index]) + counted(extensions))
    return [22, 3, 1] + counted(message)
  }

  @Test("what this side cannot do is nobody else's fault")
  func ownFault() throws {
    let window = TLSWindow(outputCapacity: 16)
    let engine = try TLSEngine(
      context: TLSContext(authority.client()),
      role: .client(serverName: nil, verification: .anyPeerThatTheRootsVouchFor), window: window)
    let error = #expect(throws: TLSError.self) { _ = try engine.handshake() }
    #expect(error?.code == .internalError, "\(error as Any)")
    #expect(error?.alert == nil)
  }

  @Test(
    "reasons are read by their library: 20 TLS, 11 X.509, 13 ASN.1, 34 its extensions, 6 keys",
    arguments: [
      ([], TLSError.Code.internalError), ([(20, 156)], .notTLS), ([(20, 155)], .notTLS),
      ([(13, 155), (20, 13 | 2 << 18)], .badCertificate),
      ([(13, 156), (20, 13 | 2 << 18)], .badCertificate), ([(34, 100)], .badCertificate),
      ([(11, 100)], .badCertificate), ([(20, 259 | 3 << 18)], .internalError),
      ([(13, 256 | 3 << 18)], .internalError), ([(6, 1_048)], .internalError),
      ([(4, 138), (20, 123)], .protocolViolated), ([(20, 1_048)], .refusedByPeer),
      ([(20, 1_040)], .nothingShared), ([(20, 1_051)], .refusedByPeer),
      ([(13, 1_048)], .badCertificate), ([(20, 259 | 3 << 18), (20, 199)], .noCertificate),
    ] as [([(Int32, Int32)], TLSError.Code)])
  func libraries(_ errors: [(Int32, Int32)], _ code: TLSError.Code) {
    let errors = errors.map { OpenSSLError(library: $0.0, reason: $0.1) }
    #expect(TLSError.Code(errors) == code)
    let isAlert = errors.contains { $0.alertFromPeer != nil }
    #expect(isAlert == errors.contains { $0.library == 20 && (1_000..<1_256).contains($0.reason) })
  }
}

@Suite("Identity: who may answer is checked in the handshake")
struct IdentityTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test(
    "P20 a worker of another service is refused, by name, before a byte is sent",
    arguments: [
      (["rpc_test"], true), (["other"], false), (["rpc_*"], true), (["*"], true), ([], false),
      (["rpc_test2"], false), (["rpc_tes"], false), (["RPC_TEST"], false),
      (["other", "rpc_test"], true),
    ])
  func services(_ services: [String], _ isAccepted: Bool) throws {
    let server = try authority.authority.configuration(
      for: .init(commonName: "rpc_test", dnsNames: ["rpc.test"], services: services))
    let pair = try EnginePair(
      client: authority.client(), server: server,
      verification: .service("rpc_test", orAddress: "127.0.0.1"))
    pair.run()
    #expect(pair.client.isDone == isAccepted)
    guard !isAccepted else { return }
    let failure = pair.client.failure
    #expect(failure?.code == .nameMismatch)
    #expect(failure?.expectedNames == ["URI:grenache:rpc_test", "IP:127.0.0.1"])
    #expect(failure?.presentedNames.first == "DNS:rpc.test")
    #expect(!pair.server.isDone, "the server must not believe that it was accepted")
  }

  @Test(
    "P19 DNS names, RFC 9525",
    arguments: [
      ("a.test", "a.test", true), ("A.Test", "a.tEST", true), ("a.test", "b.test", false),
      ("*.test.org", "a.test.org", true), ("*.test.org", "a.b.test.org", false),
      ("*.test.org", "test.org", false), ("*.org", "test.org", false), ("*", "a", false),
      ("a*.test.org", "ab.test.org", false), ("a.*.org", "a.b.org", false),
      ("a.test", "a.test.", true), ("a.test", "xa.test", false), ("a.test", "a.test.evil", false),
      ("xn--bcher-kva.test", "bücher.test", false),
    ])
  func dns(_ pattern: String, _ host: String, _ matches: Bool) {
    #expect(PeerVerification.dnsMatches(pattern, host) == matches)
  }

  @Test(
    "P19 service URIs: percent-encoding, wildcards, other schemes",
    arguments: [
      ("grenache:rest:util:net", "rest:util:net", true), ("grenache:rest:*", "rest:util", true),
      ("grenache:rest:*", "rest", false), ("grenache:a%20b", "a b", true),
      ("grenache:a%2A", "a*", true), ("grenache:a%2A", "ab", false), ("GRENACHE:a", "a", true),
      ("grenache:a*b", "a*b", false), ("grenache:", "", false), ("http:a", "a", false),
      ("grenache:a%2", "a%2", false), ("grenache:a%zz", "a", false), ("grenache:*", "x", true),
      ("grenache:caf%C3%A9", "café", true), ("grenache:a#b", "a#b", false),
    ])
  func uris(_ uri: String, _ service: String, _ covers: Bool) {
    #expect((ServicePattern(uri: uri)?.covers(service) ?? false) == covers)
  }

  @Test(
    "P19 names as certificates really bear them: NUL, case, wildcards, IDN, addresses as text",
    arguments: [
      (["localhost"], "localhost", true), (["LocalHost"], "lOCALHOST", true),
      (["localhost\0.evil.test"], "localhost", false),
      (["evil.test\0localhost"], "localhost", false),
      (["localhost\0"], "localhost", false), (["\0localhost"], "localhost", false),
      (["*.a.test"], "x.a.test", true), (["*.a.test"], "x.y.a.test", false),
      (["*.a.test"], "a.test", false), (["*.test"], "a.test", false), (["*"], "localhost", false),
      (["x*.a.test"], "xy.a.test", false), (["x.*.test"], "x.a.test", false),
      (["xn--bcher-kva.test"], "xn--bcher-kva.test", true),
      (["xn--bcher-kva.test"], "XN--BCHER-KVA.test", true),
      (["b\u{fc}cher.test"], "b\u{fc}cher.test", false),
      (["b\u{fc}cher.test"], "xn--bcher-kva.test", false), (["127.0.0.1"], "127.0.0.1", false),
      (["localhost "], "localhost", false), (["localhost."], "localhost", false),
      (["evil.test\0", "localhost"], "localhost", true), ([], "host", false),
    ])
  func realNames(_ names: [String], _ host: String, _ isAccepted: Bool) throws {
    let server = try authority.authority.configuration(
      for: .init(commonName: host, dnsNames: names))
    let pair = try EnginePair(
      client: authority.client(), server: server, verification: .name(host))
    pair.run()
    #expect(pair.client.isDone == isAccepted)
    guard !isAccepted else { return }
    let failure = try #require(pair.client.failure)
    #expect(failure.code == .nameMismatch)
    // What is no name is not shown as one, either.
    #expect(failure.presentedNames.allSatisfy { !$0.utf8.contains { $0 <= 0x20 || $0 >= 0x7f } })
  }

  @Test(
    "P19 service URIs as certificates really bear them",
    arguments: [
      ("grenache:rpc_test", true), ("grenache:rpc_test\0", false),
      ("grenache:rpc_test\0.evil", false), ("grenache:evil\0rpc_test", false),
      ("grenache:rpc_test%00", false), ("GRENACHE:rpc_test", true), ("grenache:RPC_TEST", false),
      ("grenache:rpc%5Ftest", true), ("grenache:rpc_*", true), ("grenache:*_test", false),
      ("grenache:rpc_test#a", false), ("grenache:r\u{440}c_test", false),
    ])
  func realServices(_ uri: String, _ isAccepted: Bool) throws {
    var leaf = CertificateAuthority.Leaf(commonName: "rpc_test")
    leaf.uris = [uri]
    let server = try authority.authority.configuration(for: leaf)
    let pair = try EnginePair(
      client: authority.client(), server: server, verification: .service("rpc_test"))
    pair.run()
    #expect(pair.client.isDone == isAccepted)
    if !isAccepted { #expect(pair.client.failure?.code == .nameMismatch) }
  }

  @Test("P19 a subject of several values in one place names nobody: host, service, address")
  func multivaluedSubject() throws {
    let server = try GeneratedCertificates.configuration("multivalued")
    let client = try GeneratedCertificates.configuration("client")
    for (verification, isAccepted) in [
      (PeerVerification.anyPeerThatTheRootsVouchFor, true), (.name("localhost"), false),
      (.name("127.0.0.1"), false), (.service("rpc_test", orAddress: "localhost"), false),
    ] {
      let pair = try EnginePair(client: client, server: server, verification: verification)
      pair.run()
      #expect(pair.client.isDone == isAccepted, "\(verification)")
      if isAccepted {
        let identity = try #require(pair.client.engine.peerIdentity)
        #expect(identity.subject.contains("+"), "\(identity.subject)")
        #expect(identity.names.isEmpty && identity.services.isEmpty)
      } else {
        #expect(pair.client.failure?.code == .nameMismatch)
      }
    }
  }

  @Test("every name survives its way into a URI", arguments: ["a", "a b", "ä/*?%", "rest:x", "*"])
  func uriRoundTrip(_ name: String) {
    let pattern = ServicePattern(uri: ServicePattern.uri(for: name))
    #expect(pattern?.covers(name) == true)
    #expect(pattern?.covers(name + "x") == false)
  }

  @Test("pins and fingerprints accept exactly what they name")
  func pins() throws {
    let server = try authority.host()
    let probe = try EnginePair(client: authority.client(), server: server)
    probe.run()
    let identity = try #require(probe.client.engine.peerIdentity)
    let other = [UInt8](repeating: 0, count: 32)
    for (verification, isAccepted) in [
      (PeerVerification.publicKeyPins([other, identity.publicKeySHA256]), true),
      (.publicKeyPins([other]), false),
      (.certificateFingerprints([identity.fingerprintSHA256]), true),
      (.certificateFingerprints([other]), false), (.publicKeyPins([]), false),
    ] {
      let pair = try EnginePair(
        client: authority.client(), server: server, verification: verification)
      pair.run()
      #expect(pair.client.isDone == isAccepted)
    }
  }
}

@Suite("P17 Bad certificates are refused with the cause named")
struct BadCertificateTests {
  @Test(
    "of a server and of a client",
    arguments: [
      ("unknown-ca", TLSError.Code.unknownAuthority), ("self-signed", .selfSigned),
      ("missing-intermediate", .unknownAuthority), ("revoked", .revoked),
    ])
  func causes(_ name: String, _ code: TLSError.Code) throws {
    let bad = try GeneratedCertificates.configuration(name)
    let good = try GeneratedCertificates.configuration("checks-revocation")
    let asServer = try EnginePair(client: good, server: bad)
    asServer.run()
    #expect(asServer.client.failure?.code == code, "\(String(describing: asServer.client.failure))")
    #expect(asServer.client.failure?.depth == 0)
    #expect(asServer.client.failure?.subject.isEmpty == false)
    #expect(asServer.server.failure?.code == .refusedByPeer)
    #expect(asServer.server.failure?.alert != nil)
    let asClient = try EnginePair(client: bad, server: good)
    asClient.run()
    #expect(asClient.server.failure?.code == code, "\(String(describing: asClient.server.failure))")
    #expect(asClient.client.failure?.code == .refusedByPeer)
  }

  @Test("a certificate for the other side of a connection")
  func usage() throws {
    let good = try GeneratedCertificates.configuration("client")
    let clientOnly = try GeneratedCertificates.configuration("client-only")
    let serverOnly = try GeneratedCertificates.configuration("server-only")
    let asServer = try EnginePair(client: good, server: clientOnly)
    asServer.run()
    #expect(asServer.client.failure?.code == .wrongUsage)
    let asClient = try EnginePair(client: serverOnly, server: good)
    asClient.run()
    #expect(asClient.server.failure?.code == .wrongUsage)
    let rightWay = try EnginePair(client: clientOnly, server: serverOnly)
    rightWay.run()
    #expect(rightWay.client.isDone && rightWay.server.isDone)
  }

  @Test("an expired certificate of one's own is not even loaded")
  func expired() throws {
    let authority = try TestAuthority()
    var leaf = CertificateAuthority.Leaf(commonName: "old", dnsNames: ["localhost"])
    leaf.lifetime = .seconds(-100)
    let configuration = try authority.authority.configuration(for: leaf)
    let error = #expect(throws: TLSConfigurationError.self) { try TLSContext(configuration) }
    #expect(error?.faults.count == 1)
    #expect(error?.faults.first?.reason.hasPrefix("expired") == true)
  }

  @Test(
    "good ones of every kind of key are accepted", arguments: ["rsa", "ed25519", "intermediate"])
  func good(_ name: String) throws {
    let peer = try GeneratedCertificates.configuration("client")
    let one = try GeneratedCertificates.configuration(name)
    let pair = try EnginePair(
      client: peer, server: one, verification: .service("rpc_test"))
    pair.run()
    #expect(pair.client.isDone && pair.server.isDone, "\(String(describing: pair.client.failure))")
  }
}
