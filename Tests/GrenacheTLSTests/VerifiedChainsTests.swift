import TestSupport
import Testing

@testable import GrenacheTLS

@Suite("P25 Verdicts on chains are kept while nothing can have changed them")
struct VerifiedChainsTests {
  private let certificate: OpenSSLHandle
  /// When it ends; times below are before it.
  private let end: Int64

  init() throws {
    let issued = try TestAuthority().authority.issue(.init(commonName: "somebody"))
    let content = try TLSSourceReader.Everything(in: .pem(issued.certificate), passphrase: nil)
    certificate = try #require(content.certificates.first)
    end = PeerIdentity(certificate: certificate.pointer, chain: []).validUntil
  }

  /// Somebody who has presented this chain.
  private func identity(_ chain: [[UInt8]] = [[1], [2, 3]]) -> PeerIdentity {
    PeerIdentity(certificate: certificate.pointer, chain: chain)
  }

  @Test(
    "from the verification on until the first of its certificates ends, and not when the clock is set back",
    arguments: [(1_001, false), (1_000, true), (1, true), (0, false)])
  func validity(_ left: Int64, _ isKnown: Bool) {
    let somebody = identity()
    let chains = VerifiedChains(changes: [])
    chains.note(somebody, side: .server, at: end - 1_000)
    let seen = chains.identity(of: somebody.chain, side: .server, at: end - left)
    #expect(seen == (isKnown ? somebody : nil))
  }

  @Test(
    "until the next revocation list ends or begins; those that are over end nothing",
    arguments: [
      ([500], 501, true), ([500], 500, false), ([1_001, 1_000, -5], 1, true),
      ([200, 800, 400], 801, true), ([200, 800, 400], 800, false),
    ] as [([Int64], Int64, Bool)])
  func lists(_ changes: [Int64], _ left: Int64, _ isKnown: Bool) {
    let somebody = identity()
    let chains = VerifiedChains(changes: changes.map { end - $0 })
    chains.note(somebody, side: .server, at: end - 1_000)
    let seen = chains.identity(of: somebody.chain, side: .server, at: end - left)
    #expect((seen != nil) == isKnown)
  }

  @Test("of the very same certificates, on the same side")
  func same() {
    let somebody = identity()
    let chains = VerifiedChains(changes: [])
    let now = end - 1
    chains.note(somebody, side: .server, at: now)
    for other in [[[1]], [[2, 3], [1]], [[1], [2], [3]], [[1, 2, 3]], [[1], [2, 3], []], []]
      as [[[UInt8]]]
    {
      #expect(chains.identity(of: other, side: .server, at: now) == nil)
    }
    #expect(chains.identity(of: somebody.chain, side: .client, at: now) == nil)
    #expect(chains.identity(of: somebody.chain, side: .server, at: now) == somebody)
  }

  @Test("nothing of what is over, or where the system may add lists")
  func notKept() {
    let chains = VerifiedChains(changes: [])
    chains.note(identity(), side: .server, at: end)
    let systems = VerifiedChains(changes: nil)
    systems.note(identity(), side: .server, at: end - 1)
    #expect(chains.count == 0 && systems.count == 0)
  }

  @Test("chains of 16 KiB, and not of one byte more", arguments: [0, 1])
  func bytes(_ more: Int) {
    let half = [UInt8](repeating: 0, count: VerifiedChains.chainBytesMax / 2)
    let chains = VerifiedChains(changes: [])
    chains.note(
      identity([half, half + [UInt8](repeating: 0, count: more)]), side: .server, at: end - 1)
    #expect(chains.count == 1 - more)
  }

  @Test(
    "1,024 chains at the most; who is asked for stays, of the others the half goes that was there first"
  )
  func limit() {
    let chains = VerifiedChains(changes: [])
    let now = end - 1
    func chain(_ number: Int) -> [[UInt8]] { [Array("\(number)".utf8)] }
    func isKnown(_ number: Int) -> Bool {
      chains.identity(of: chain(number), side: .server, at: now) != nil
    }
    let max = VerifiedChains.chainsMax
    for number in 0..<(max - 1) { chains.note(identity(chain(number)), side: .server, at: now) }
    #expect(chains.count == max - 1)
    // Asked for, it is one of the new half as well, which is full by that: the old half goes.
    #expect(isKnown(0))
    #expect(chains.count == max / 2)
    #expect(isKnown(0) && !isKnown(1) && !isKnown(max / 2 - 1))
    #expect(isKnown(max / 2) && isKnown(max - 2))
    for number in max..<(10 * max) {
      chains.note(identity(chain(number)), side: .server, at: now)
      #expect(chains.count < max)
    }
  }

  @Test("what another snapshot has replaced forgets all, and keeps nothing more")
  func closed() {
    let chains = VerifiedChains(changes: [])
    chains.note(identity(), side: .server, at: end - 1)
    chains.close()
    #expect(chains.count == 0)
    chains.note(identity(), side: .server, at: end - 1)
    #expect(chains.count == 0)
  }

  @Test(
    "what was found good is not verified again: rules are asked all the same, and another snapshot verifies"
  )
  func resumption() throws {
    var configuration = try TestAuthority().host()
    let context = try TLSContext(configuration)
    // No chain that OpenSSL would take.
    context.current.verified.note(identity(), side: .server, at: wallClock())
    let chain = identity().chain
    #expect(try context.current.verify(chain, side: .server, stage: .recheck) == identity())
    #expect(throws: TLSError.self) {
      try context.current.verify(chain, side: .client, stage: .recheck)
    }
    let old = context.current
    configuration.clientVerification = .name("somebody.else")
    try context.reload(configuration)
    #expect(old.verified.count == 0)
    #expect(throws: TLSError.self) {
      try context.current.verify(chain, side: .server, stage: .recheck)
    }
    context.current.verified.note(identity(), side: .server, at: wallClock())
    let refusal = #expect(throws: TLSError.self) {
      try context.current.verify(chain, side: .server, stage: .recheck)
    }
    #expect(refusal?.code == .nameMismatch)
  }

  @Test("whose chain is good and who has not shown its key is not noted")
  func unproven() throws {
    let authority = try TestAuthority()
    let server = try TLSContext(authority.host())
    let pair = try EnginePair(client: TLSContext(authority.client()), server: server)
    pair.client.feed([])
    pair.server.feed(pair.client.takeOutput())
    pair.client.feed(pair.server.takeOutput())
    let flight = pair.client.takeOutput()
    // The certificate comes whole long before its signature does.
    for byte in flight {
      #expect(server.current.verified.count == 0)
      pair.server.feed([byte])
    }
    #expect(pair.server.isDone && server.current.verified.count == 1)
  }

  @Test("both sides of a handshake note whom they have met, once it is over")
  func handshake() throws {
    let authority = try TestAuthority()
    let client = try TLSContext(authority.client())
    let server = try TLSContext(authority.host())
    for number in 0..<3 {
      let role = TLSEngine.Role.client(
        serverName: nil, verification: .anyPeerThatTheRootsVouchFor, destination: "127.0.0.1:4001")
      let pair = EnginePair(client: try .init(client, role), server: try .init(server, .server))
      pair.run()
      #expect(pair.server.engine.negotiated?.isResumed == (number > 0))
      #expect(client.current.verified.count == 1 && server.current.verified.count == 1)
      let peer = try #require(pair.server.engine.peerIdentity)
      #expect(
        server.current.verified.identity(of: peer.chain, side: .server, at: wallClock()) == peer)
    }
  }
}
