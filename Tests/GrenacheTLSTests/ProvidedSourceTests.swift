import GrenacheTLS
import Synchronization
import TestSupport
import Testing

@Suite("Certificates that a program provides")
struct ProvidedSourceTests {
  private func configuration(
    _ held: @escaping @Sendable () -> CertificateAuthority.Issued?, _ roots: TLSConfiguration.Source
  ) -> TLSConfiguration {
    TLSConfiguration(
      certificate: .provided("the vault's certificate") {
        held().map { Array($0.certificate.utf8) }
      },
      key: .provided("the vault's key") { held().map { Array($0.key.utf8) } }, roots: roots)
  }

  @Test(
    "P21 what is provided anew is what is used after a reload, and what is no use changes nothing")
  func rotation() async throws {
    let authority = try CertificateAuthority()
    let peer = try TLSContext(authority.configuration(for: .init(commonName: "peer")))
    let first = try authority.issue(.init(commonName: "first"))
    let second = try authority.issue(.init(commonName: "second"))
    let provided = Held(first)
    let context = try TLSContext(
      configuration({ provided.value }, .pem(authority.certificatePEM)))
    #expect(try peerIdentity(of: context, seenBy: peer)?.subject.contains("first") == true)
    provided.value = second
    try context.reload()
    #expect(try peerIdentity(of: context, seenBy: peer)?.subject.contains("second") == true)
    provided.value = nil
    let error = #expect(throws: TLSConfigurationError.self) { try context.reload() }
    #expect(error?.faults.map(\.source).contains("the vault's key") == true)
    #expect(error?.faults.allSatisfy { $0.reason == "gives nothing" } == true)
    #expect(try peerIdentity(of: context, seenBy: peer)?.subject.contains("second") == true)
  }

  @Test("an identity for tests says what the certificate says")
  func unverified() throws {
    let authority = try CertificateAuthority()
    let issued = try authority.issue(
      .init(commonName: "billing", dnsNames: ["billing.test"], services: ["billing"]))
    let identity = try PeerIdentity(unverifiedPEM: issued.certificate)
    #expect(identity.names.contains(.dns("billing.test")))
    #expect(identity.services == ["billing"])
    #expect(throws: TLSConfigurationError.self) { try PeerIdentity(unverifiedPEM: issued.key) }
    #expect(throws: TLSConfigurationError.self) { try PeerIdentity(unverifiedPEM: "") }
  }
}

private final class Held: Sendable {
  private let state: Mutex<CertificateAuthority.Issued?>

  init(_ issued: CertificateAuthority.Issued?) { state = Mutex(issued) }

  var value: CertificateAuthority.Issued? {
    get { state.withLock { $0 } }
    set { state.withLock { $0 = newValue } }
  }
}
