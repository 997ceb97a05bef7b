public import GrenacheTLS

/// One authority for a test, and configurations of everybody whom it vouches for.
public struct TestAuthority: Sendable {
  /// The authority itself.
  public let authority: CertificateAuthority

  /// A new authority.
  public init() throws {
    authority = try CertificateAuthority(commonName: "test CA")
  }

  /// A host on loopback: localhost, 127.0.0.1 and ::1.
  public func host(services: [String] = []) throws -> TLSConfiguration {
    try authority.configuration(
      for: .init(
        commonName: "host", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1", "::1"],
        services: services))
  }

  /// A worker that is known by its services alone.
  public func worker(_ services: String...) throws -> TLSConfiguration {
    try authority.configuration(for: .init(commonName: "worker", services: services))
  }

  /// Somebody who only calls.
  public func client() throws -> TLSConfiguration {
    try authority.configuration(for: .init(commonName: "client", dnsNames: ["client.test"]))
  }
}
