import Foundation
import Synchronization
import TestSupport
import Testing

@testable import GrenacheTLS

/// Holds a context until it is taken.
private final class ContextBox: Sendable {
  private let context = Mutex<TLSContext?>(nil)
  func put(_ context: TLSContext) { self.context.withLock { $0 = context } }
  func take() -> TLSContext? {
    context.withLock { context in
      defer { context = nil }
      return context
    }
  }
}

@Suite("P21 Certificates are replaced as a whole, while connections go on")
struct TLSContextTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func shakeHands(_ client: TLSContext, _ server: TLSContext) throws -> EnginePair {
    let pair = try EnginePair(client: client, server: server)
    pair.run()
    return pair
  }

  @Test("a new connection gets the new certificate, an open one goes on")
  func replaced() throws {
    let server = try TLSContext(authority.host())
    let client = try TLSContext(authority.client())
    let before = try shakeHands(client, server)
    let old = server.fingerprintSHA256
    try server.reload(authority.host())
    #expect(server.fingerprintSHA256 != old)
    let after = try shakeHands(client, server)
    #expect(before.client.engine.peerIdentity?.fingerprintSHA256 == old)
    #expect(after.client.engine.peerIdentity?.fingerprintSHA256 == server.fingerprintSHA256)
    try before.client.send([1, 2, 3])
    before.run()
    #expect(before.server.received == [1, 2, 3])
  }

  @Test("a set that cannot be used changes nothing and says what is wrong")
  func bad() throws {
    let server = try TLSContext(authority.host())
    let client = try TLSContext(authority.client())
    let old = server.fingerprintSHA256
    var mixed = try authority.host()
    mixed.key = try authority.host().key
    let error = #expect(throws: TLSConfigurationError.self) { try server.reload(mixed) }
    #expect(error?.faults.first?.reason.contains("not the key of the certificate") == true)
    #expect(throws: TLSConfigurationError.self) { try server.reload(.directory("/nowhere")) }
    #expect(server.fingerprintSHA256 == old)
    #expect(try shakeHands(client, server).client.isDone)
  }

  @Test("client certificates are still asked for after a reload, and by the new roots")
  func clientAuthentication() throws {
    let server = try TLSContext(authority.host())
    let stranger = try TLSContext(TestAuthority().client())
    try server.reload(authority.host())
    let pair = try EnginePair(client: stranger, server: server)
    pair.run()
    #expect(!pair.server.isDone)
    #expect(pair.server.failure?.code == .unknownAuthority || pair.client.failure != nil)
    var other = try authority.host()
    other.roots = try TestAuthority().client().roots
    try server.reload(other)
    let known = try EnginePair(client: TLSContext(authority.client()), server: server)
    known.run()
    #expect(known.server.failure?.code == .unknownAuthority)
  }

  @Test("what was loaded from an older configuration does not replace a newer one")
  func overlapping() throws {
    var configuration = try GeneratedCertificates.configuration("server")
    let folder = try GeneratedCertificates.directory("formats")
    configuration.key = .file("\(folder)/key-encrypted.pem")
    let box = ContextBox()
    let newer = try authority.host()
    // While the older is loaded, which asks for the passphrase, the newer is loaded whole.
    configuration.passphrase = TLSPassphrase { _ in
      if let context = box.take() { try? context.reload(newer) }
      return "secret"
    }
    let context = try TLSContext(configuration)
    box.put(context)
    try context.reload()
    #expect(context.configuration.certificate == newer.certificate)
  }

  @Test("P22 peers of open connections are verified anew: roots, revocation, side")
  func recheck() throws {
    let revoked = try GeneratedCertificates.configuration("revoked")
    let folder = try GeneratedCertificates.directory("checks-revocation")
    let lax = TLSConfiguration.files(
      certificate: "\(folder)/cert.pem", key: "\(folder)/key.pem", roots: "\(folder)/ca.pem")
    let lists = TLSConfiguration.Source.file("\(folder)/crl.pem")
    let server = try TLSContext(lax)
    let pair = try shakeHands(TLSContext(revoked), server)
    let peer = try #require(pair.server.engine.peerIdentity)
    #expect(server.current.recheck(peer, side: .server) == nil)
    #expect(pair.server.engine.recheckAfterReload() == nil)
    var strict = lax
    strict.revocationLists = lists
    try server.reload(strict)
    let error = server.current.recheck(peer, side: .server)
    #expect(error?.code == .revoked)
    #expect(error?.stage == .recheck)
    #expect(error?.subject == "CN=revoked")
    #expect(pair.server.engine.recheckAfterReload()?.code == .revoked)
    var stranger = lax
    stranger.roots = try authority.client().roots
    try server.reload(stranger)
    #expect(server.current.recheck(peer, side: .server)?.code == .unknownAuthority)
    let clientOnly = try shakeHands(
      TLSContext(GeneratedCertificates.configuration("client-only")), TLSContext(lax))
    let other = try #require(clientOnly.server.engine.peerIdentity)
    try server.reload(lax)
    #expect(server.current.recheck(other, side: .server) == nil)
    #expect(server.current.recheck(other, side: .client)?.code == .wrongUsage)
  }

  @Test("a list that comes after the configuration was made, and before it is loaded, counts")
  func early() throws {
    let source = try GeneratedCertificates.directory("checks-revocation")
    let folder = try TemporaryFolder(copying: source)
    try folder.remove("crl.pem")
    let configuration = TLSConfiguration.directory(folder.path)
    try folder.copy("\(source)/crl.pem")
    let context = try TLSContext(configuration)
    #expect(context.configuration.revocationLists != nil)
    let pair = try shakeHands(
      TLSContext(GeneratedCertificates.configuration("revoked")), context)
    #expect(pair.server.failure?.code == .revoked)
  }

  @Test("a folder's crl.pem counts once it comes; one that goes is missed, not given up")
  func crl() throws {
    let source = try GeneratedCertificates.directory("checks-revocation")
    let folder = try TemporaryFolder(copying: source)
    try folder.remove("crl.pem")
    let context = try TLSContext(.directory(folder.path))
    #expect(context.stamps == context.configuration.stamps)
    #expect(context.configuration.revocationLists == nil)
    try folder.copy("\(source)/crl.pem")
    #expect(context.stamps != context.configuration.stamps)
    try context.reload()
    #expect(context.configuration.revocationLists != nil)
    #expect(context.stamps == context.configuration.stamps)
    try folder.remove("crl.pem")
    let error = #expect(throws: TLSConfigurationError.self) { try context.reload() }
    #expect(error?.faults.first?.source.hasSuffix("crl.pem") == true)
    #expect(context.configuration.revocationLists != nil)
  }
}
