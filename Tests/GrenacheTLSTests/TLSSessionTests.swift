import Synchronization
import TestSupport
import Testing

@testable import GrenacheTLS

@Suite("P25 Sessions are resumed by tickets, and who is there is verified again")
struct TLSSessionTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  /// Connects as to one and the same address.
  private func connect(
    _ client: TLSContext, _ server: TLSContext, to destination: String? = "127.0.0.1:4001",
    name: String? = nil, verification: PeerVerification = .anyPeerThatTheRootsVouchFor
  ) throws -> EnginePair {
    let role = TLSEngine.Role.client(
      serverName: name, verification: verification, destination: destination)
    let pair = EnginePair(client: try .init(client, role), server: try .init(server, .server))
    pair.run()
    return pair
  }

  private func isResumed(_ pair: EnginePair) -> Bool {
    let ends = [pair.client.engine.negotiated?.isResumed, pair.server.engine.negotiated?.isResumed]
    #expect(ends[0] == ends[1])
    return ends[0] == true
  }

  @Test("the second connection is resumed, with the same identities, and so is the third")
  func resumed() throws {
    let client = try TLSContext(GeneratedCertificates.configuration("intermediate"))
    let server = try TLSContext(GeneratedCertificates.configuration("intermediate"))
    let first = try connect(client, server)
    #expect(!isResumed(first))
    for _ in 0..<3 {
      let next = try connect(client, server)
      #expect(isResumed(next))
      let seen = try #require(next.server.engine.peerIdentity)
      #expect(seen == first.server.engine.peerIdentity)
      #expect(seen.chain.count == 2 && seen.issuerPublicKeysSHA256.count == 2)
      #expect(next.client.engine.peerIdentity == first.client.engine.peerIdentity)
      try next.client.send([1, 2, 3])
      next.run()
      #expect(next.server.received == [1, 2, 3])
    }
  }

  @Test("a session is offered once, to the address, name and peer that it was begun with")
  func once() throws {
    let client = try TLSContext(authority.client())
    let server = try TLSContext(authority.host())
    _ = try connect(client, server)
    #expect(client.sessions.count == 1)
    #expect(try !isResumed(connect(client, server, to: "127.0.0.1:4002")))
    #expect(try !isResumed(connect(client, server, name: "localhost")))
    #expect(try !isResumed(connect(client, server, verification: .name("localhost"))))
    #expect(try !isResumed(connect(client, server, to: nil)))
    let role = TLSEngine.Role.client(
      serverName: nil, verification: .anyPeerThatTheRootsVouchFor, destination: "127.0.0.1:4001")
    let both = try (0..<2).map { _ in
      EnginePair(client: try .init(client, role), server: try .init(server, .server))
    }
    for pair in both { pair.run() }
    #expect(both.map(isResumed) == [true, false])
  }

  @Test("a client that has been revoked is refused, not resumed")
  func revoked() throws {
    let client = try TLSContext(GeneratedCertificates.configuration("revoked"))
    var configuration = try GeneratedCertificates.configuration("checks-revocation")
    let lists = configuration.revocationLists
    configuration = TLSConfiguration(
      certificate: configuration.certificate, key: configuration.key, roots: configuration.roots)
    let server = try TLSContext(configuration)
    _ = try connect(client, server)
    #expect(try isResumed(connect(client, server)))
    configuration.revocationLists = lists
    try server.reload(configuration)
    let refused = try connect(client, server)
    #expect(refused.server.failure?.code == .revoked)
    #expect(refused.server.engine.peerIdentity == nil)
  }

  @Test("a server that has been revoked is not offered a session, and refused")
  func revokedServer() throws {
    let server = try TLSContext(GeneratedCertificates.configuration("revoked"))
    let strict = try GeneratedCertificates.configuration("checks-revocation")
    let lax = TLSConfiguration(
      certificate: strict.certificate, key: strict.key, roots: strict.roots)
    let client = try TLSContext(lax)
    _ = try connect(client, server)
    #expect(client.sessions.count == 1)
    try client.reload(strict)
    let refused = try connect(client, server)
    #expect(refused.client.failure?.code == .revoked)
    #expect(client.sessions.count == 0)
  }

  @Test("roots and rules that changed count: for clients and for servers")
  func rules() throws {
    let client = try TLSContext(authority.client())
    var configuration = try authority.host()
    let server = try TLSContext(configuration)
    _ = try connect(client, server)
    configuration.clientVerification = .name("another.test")
    try server.reload(configuration)
    let refused = try connect(client, server)
    #expect(refused.server.failure?.code == .nameMismatch)
    #expect(refused.server.failure?.expectedNames == ["DNS:another.test"])
    configuration.clientVerification = .custom("client.test, as it is today") { peer in
      peer.names == [.dns("client.test")] && peer.chain.count == 1
    }
    try server.reload(configuration)
    _ = try connect(client, server)
    #expect(try isResumed(connect(client, server)))
    configuration.roots = try TestAuthority().host().roots
    try server.reload(configuration)
    #expect(try connect(client, server).server.failure?.code == .unknownAuthority)
  }

  @Test("a certificate that was replaced, on either side, is shown")
  func replaced() throws {
    let client = try TLSContext(authority.client())
    let server = try TLSContext(authority.host())
    _ = try connect(client, server)
    try server.reload(authority.host())
    let renewed = try connect(client, server)
    #expect(!isResumed(renewed))
    #expect(renewed.client.engine.peerIdentity?.fingerprintSHA256 == server.fingerprintSHA256)
    try client.reload(authority.client())
    let other = try connect(client, server)
    #expect(!isResumed(other))
    #expect(other.server.engine.peerIdentity?.fingerprintSHA256 == client.fingerprintSHA256)
  }

  @Test("client certificates that came to be required, or not to be asked for")
  func clientCertificates() throws {
    var none = try authority.client()
    none.certificate = .pem("")
    none.key = .pem("")
    let nobody = try TLSContext(none, isChecked: false)
    let somebody = try TLSContext(authority.client())
    var configuration = try authority.host()
    configuration.clientCertificates = .optional
    let server = try TLSContext(configuration)
    _ = try connect(nobody, server)
    _ = try connect(somebody, server)
    let again = try connect(nobody, server)
    #expect(isResumed(again))
    #expect(again.server.engine.peerIdentity == nil)
    #expect(try connect(somebody, server).server.engine.peerIdentity != nil)
    configuration.clientCertificates = .required
    try server.reload(configuration)
    #expect(try connect(nobody, server).server.failure?.code == .noCertificate)
    configuration.clientCertificates = .none
    try server.reload(configuration)
    let unasked = try connect(somebody, server)
    #expect(!isResumed(unasked) && unasked.server.isDone)
    #expect(unasked.server.engine.peerIdentity == nil)
  }

  @Test("the keys of tickets are replaced, and old tickets resume nothing")
  func rotation() throws {
    let now = Atomic<Int64>(1_000_000)
    let clock: @Sendable () -> Int64 = { now.load(ordering: .relaxed) }
    var configuration = try authority.host()
    configuration.sessions?.lifetime = .seconds(100)
    let server = try TLSContext(configuration, isChecked: true, clock: clock)
    for (elapsed, resumes) in [(0, true), (49, true), (50, true), (99, true), (100, false)] {
      now.store(1_000_050, ordering: .relaxed)
      // A client whose clock stands still forgets nothing.
      let client = try TLSContext(authority.client(), isChecked: true, clock: { 0 })
      _ = try connect(client, server)
      now.store(1_000_050 + Int64(elapsed), ordering: .relaxed)
      #expect(try isResumed(connect(client, server)) == resumes, "after \(elapsed) s")
    }
  }

  @Test("resuming again and again does not put off the next full handshake")
  func chains() throws {
    let now = Atomic<Int64>(0)
    let clock: @Sendable () -> Int64 = { now.load(ordering: .relaxed) }
    var there = try authority.host()
    var here = try authority.client()
    // Whichever side has the shorter lifetime decides.
    for (clients, servers) in [(100, 1_000), (1_000, 100)] {
      here.sessions?.lifetime = .seconds(clients)
      there.sessions?.lifetime = .seconds(servers)
      let client = try TLSContext(here, isChecked: true, clock: clock)
      let server = try TLSContext(there, isChecked: true, clock: clock)
      let resumed = try (0..<5).map { step in
        now.store(1_000_000 + Int64(step) * 60, ordering: .relaxed)
        return isResumed(try connect(client, server))
      }
      #expect(resumed == [false, true, false, true, false])
    }
  }

  @Test("sessions end with their lifetime and with the status that they began with")
  func life() throws {
    let client = try TLSContext(authority.client())
    _ = try connect(client, TLSContext(authority.host()))
    let key = TLSSessionCache.Key(
      destination: "127.0.0.1:4001", serverName: nil, verification: .anyPeerThatTheRootsVouchFor,
      ownFingerprint: client.fingerprintSHA256)
    let now = client.clock()
    var entry = try #require(client.sessions.take(key, at: now, lifetime: 3_600))
    entry.beganAt = 1_000
    for (goodUntil, now, isAlive) in [
      (Int64.max, Int64(1_000), true), (.max, 1_099, true), (.max, 1_100, false),
      (1_050, 1_049, true), (1_050, 1_050, false), (.max, .min, false), (.max, .max, false),
    ] {
      entry.goodUntil = goodUntil
      #expect(entry.isAlive(at: now, lifetime: 100) == isAlive, "\(goodUntil) at \(now)")
    }
  }

  @Test("a client's own rule is asked again before a session is offered")
  func clientsRule() throws {
    let isAllowed = Atomic(true)
    let allows: @Sendable () -> Bool = { isAllowed.load(ordering: .relaxed) }
    let verification = PeerVerification.custom("a host on the list") { _ in allows() }
    let client = try TLSContext(authority.client())
    let server = try TLSContext(authority.host())
    _ = try connect(client, server, verification: verification)
    #expect(try isResumed(connect(client, server, verification: verification)))
    isAllowed.store(false, ordering: .relaxed)
    let refused = try connect(client, server, verification: verification)
    #expect(refused.client.failure?.code == .nameMismatch)
    #expect(client.sessions.count == 0)
  }

  @Test("a further certificate that was replaced is shown")
  func furtherReplaced() throws {
    func further() throws -> TLSConfiguration.Identity {
      let made = try authority.authority.configuration(
        for: .init(commonName: "a", dnsNames: ["a.test"]))
      return .init(certificate: made.certificate, key: made.key)
    }
    var configuration = try authority.host()
    configuration.furtherIdentities = [try further()]
    let server = try TLSContext(configuration)
    let client = try TLSContext(authority.client())
    let first = try connect(client, server, name: "a.test")
    #expect(try isResumed(connect(client, server, name: "a.test")))
    configuration.furtherIdentities = [try further()]
    try server.reload(configuration)
    let renewed = try connect(client, server, name: "a.test")
    #expect(!isResumed(renewed))
    #expect(renewed.client.engine.peerIdentity != first.client.engine.peerIdentity)
  }

  @Test("of a client's tickets four are looked at; the handshake of one with more is broken off")
  func tickets() throws {
    let server = try EnginePair.End(TLSContext(authority.host()), .server)
    #expect(
      (1...6).map { _ in server.engine.mayOpenTicket() } == [true, true, true, true, false, false])
  }

  @Test("a peer with a chain of more than 16 KiB is not remembered")
  func largeChains() throws {
    let client = try TLSContext(authority.client())
    for (names, isKept) in [(400, true), (1_200, false)] {
      let leaf = CertificateAuthority.Leaf(
        commonName: "host", dnsNames: (0..<names).map { "host-number-\($0).test" })
      _ = try connect(client, TLSContext(authority.authority.configuration(for: leaf)))
      #expect((client.sessions.count == 1) == isKept, "\(names) names")
      client.sessions.removeAll()
    }
  }

  @Test("keys of tickets: one a period, three that open, none shared by accident")
  func keys() {
    let keys = TLSTicketKeys(secret: Array(repeating: 7, count: 32), lifetime: .seconds(60))
    let now: Int64 = 6_000
    let key = keys.sealing(at: now)
    #expect(key == keys.sealing(at: now + 59))
    #expect(key.name.count == 16 && key.cipher.count == 32 && key.mac.count == 32)
    #expect(key.cipher != key.mac)
    let next = keys.sealing(at: now + 60)
    #expect(Set([key.name, next.name]).count == 2 && key.cipher != next.cipher)
    for (elapsed, opens) in [(-61, false), (-60, true), (0, true), (119, true), (120, false)] {
      #expect((keys.opening(key.name, at: now + Int64(elapsed)) == key) == opens, "\(elapsed)")
    }
    let other = TLSTicketKeys(secret: Array(repeating: 8, count: 32), lifetime: .seconds(60))
    #expect(other.opening(key.name, at: now) == nil)
  }

  @Test("a shared secret: what one server began, another resumes; without it, none does")
  func shared() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/secret"
    try GrenacheTLSTestFiles.write(secureRandomBytes(48), to: path)
    var configuration = try authority.host()
    let client = try TLSContext(authority.client())
    _ = try connect(client, TLSContext(configuration))
    #expect(try !isResumed(connect(client, TLSContext(configuration))))
    configuration.sessions?.sharedSecretFile = path
    let first = try TLSContext(configuration)
    _ = try connect(client, first, to: "b:1")
    #expect(try isResumed(connect(client, TLSContext(configuration), to: "b:1")))
    // The file is one of those that are watched.
    let stamps = first.stamps
    try GrenacheTLSTestFiles.write(secureRandomBytes(32), to: path)
    #expect(first.configuration.stamps != stamps)
    try first.reload()
    #expect(try !isResumed(connect(client, first, to: "b:1")))
    // Whoever can read it can be any client.
    try GrenacheTLSTestFiles.write(secureRandomBytes(32), to: path, mode: 0o640)
    let error = #expect(throws: TLSConfigurationError.self) { try first.reload() }
    #expect(error?.faults.first?.reason.contains("may be read by others") == true)
  }

  @Test("a secret of 32 to 1,024 bytes, a lifetime of a second to twelve hours: others are faults")
  func faults() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/secret"
    var configuration = try authority.host()
    configuration.sessions?.sharedSecretFile = path
    #expect(throws: TLSConfigurationError.self) { try TLSContext(configuration) }
    for (count, isGood) in [(31, false), (32, true), (1_024, true), (1_025, false)] {
      try GrenacheTLSTestFiles.write(secureRandomBytes(count), to: path)
      #expect(((try? TLSContext(configuration)) != nil) == isGood, "\(count) bytes")
    }
    configuration.sessions?.sharedSecretFile = nil
    for (seconds, isGood) in [(0, false), (1, true), (43_200, true), (43_201, false)] {
      configuration.sessions?.lifetime = .seconds(seconds)
      #expect(((try? TLSContext(configuration)) != nil) == isGood, "\(seconds) s")
    }
  }

  @Test("P24 nothing is resumed in TLS 1.2, nor where sessions are off", arguments: [true, false])
  func never(_ isOld: Bool) throws {
    var configuration = try authority.host()
    if isOld {
      configuration.protocols.maximum = .tls12
    } else {
      configuration.sessions = nil
    }
    let server = try TLSContext(configuration)
    let client = try TLSContext(authority.client())
    for _ in 0..<3 { #expect(try !isResumed(connect(client, server))) }
    #expect(client.sessions.count == 0)
  }

  @Test("a client keeps so many sessions, and four of one destination; none when that is the limit")
  func limits() throws {
    let server = try TLSContext(authority.host())
    var configuration = try authority.client()
    configuration.sessions?.clientSessionsMax = 3
    let client = try TLSContext(configuration)
    for number in 1...3 { _ = try connect(client, server, to: "a:\(number)") }
    #expect(client.sessions.count == 3)
    _ = try connect(client, server, to: "a:4")
    #expect(client.sessions.count == 3)
    configuration.sessions?.clientSessionsMax = 0
    let none = try TLSContext(configuration)
    _ = try connect(none, server)
    #expect(none.sessions.count == 0)
    let many = try TLSContext(authority.client())
    let role = TLSEngine.Role.client(
      serverName: nil, verification: .anyPeerThatTheRootsVouchFor, destination: "a:1")
    let pairs = try (0..<5).map { _ in
      EnginePair(client: try .init(many, role), server: try .init(server, .server))
    }
    for pair in pairs { pair.run() }
    #expect(many.sessions.count == TLSSessionCache.perDestinationMax)
  }
}
