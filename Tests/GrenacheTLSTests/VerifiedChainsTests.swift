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
    // What was not good any more is gone for good.
    let later = chains.identity(of: somebody.chain, side: .server, at: end - 500)
    #expect((later != nil) == isKnown)
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

  @Test("1,024 chains; with one more, all begin anew")
  func limit() {
    let chains = VerifiedChains(changes: [])
    func note(_ number: Int) {
      chains.note(identity([Array("\(number)".utf8)]), side: .server, at: end - 1)
    }
    for number in 0..<VerifiedChains.chainsMax { note(number) }
    note(0)
    #expect(chains.count == VerifiedChains.chainsMax)
    note(VerifiedChains.chainsMax)
    #expect(chains.count == 1)
  }

  @Test(
    "who resumes is not verified again, on either side, until roots, lists or rules are loaded anew"
  )
  func resumption() throws {
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
      let chain = try #require(pair.server.engine.peerIdentity?.chain)
      #expect(
        server.current.verified.identity(of: chain, side: .server, at: wallClock())
          == pair.server.engine.peerIdentity)
    }
    try server.reload()
    #expect(server.current.verified.count == 0)
  }
}
