internal import COpenSSL

/// The versions, cipher suites and groups that are offered and accepted.
///
/// Renegotiation, compression, 0-RTT and everything older than TLS 1.2 are off, whatever is set here.
public struct TLSProtocols: Hashable, Sendable {
  /// A version of TLS.
  public enum Version: Hashable, Sendable {
    /// RFC 5246.
    case tls12
    /// RFC 8446.
    case tls13
  }

  /// The oldest version.
  public var minimum: Version
  /// The newest version.
  public var maximum = Version.tls13
  /// TLS 1.3's cipher suites by their names in RFC 8446, the preferred one first.
  public var cipherSuites: [String]
  /// TLS 1.2's cipher suites by OpenSSL's names.
  public var tls12Ciphers: [String]
  /// The groups for key exchange by OpenSSL's names, the preferred one first.
  public var groups: [String]

  /// Only TLS 1.3.
  public static var modern: TLSProtocols {
    TLSProtocols(
      minimum: .tls13, cipherSuites: suites, tls12Ciphers: [], groups: defaultGroups)
  }

  /// TLS 1.3, and TLS 1.2 with forward secrecy and authenticated encryption.
  public static var intermediate: TLSProtocols {
    TLSProtocols(
      minimum: .tls12, cipherSuites: suites,
      tls12Ciphers: [
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
      ], groups: defaultGroups)
  }

  private static let suites = [
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
  ]

  /// The cheapest first; from OpenSSL 3.5 on the hybrid post-quantum group before all, with a key share
  /// (`*`) for X25519 as well, so that peers without the hybrid cost no further round trip. Under FIPS
  /// those that every FIPS provider offers.
  private static var defaultGroups: [String] {
    if TLSProviders.isFIPSRequired { return ["P-256", "P-384"] }
    return OpenSSL_version_num() >= 0x3050_0000
      ? ["*X25519MLKEM768", "*X25519", "P-256", "P-384"] : ["X25519", "P-256", "P-384"]
  }

  init(minimum: Version, cipherSuites: [String], tls12Ciphers: [String], groups: [String]) {
    self.minimum = minimum
    self.cipherSuites = cipherSuites
    self.tls12Ciphers = tls12Ciphers
    self.groups = groups
  }

  /// Applies all of it to a context.
  ///
  /// - Returns: what OpenSSL did not accept.
  func apply(to context: OpaquePointer) -> [TLSConfigurationError.Fault] {
    var faults: [TLSConfigurationError.Fault] = []
    func check(_ code: Int32, _ what: String, _ value: [String]) {
      guard code != 1 else { return }
      let reasons = takeOpenSSLReasons().joined(separator: "; ")
      faults.append(
        .init(
          source: what, reason: "\(value.joined(separator: ":")) is not known (\(reasons))",
          remedy: "Use the names that the openssl command lists."))
    }
    let versions = (number(minimum), number(maximum))
    if minimum == .tls13, maximum == .tls12 {
      faults.append(
        .init(
          source: "TLS versions", reason: "the oldest is newer than the newest",
          remedy: "Swap them."))
    }
    check(
      unsafe grenache_ctx_set_versions(context, versions.0, versions.1), "TLS versions", [])
    check(
      unsafe SSL_CTX_set_ciphersuites(context, cipherSuites.joined(separator: ":")),
      "TLS 1.3 cipher suites", cipherSuites)
    if minimum == .tls12 {
      check(
        unsafe SSL_CTX_set_cipher_list(context, tls12Ciphers.joined(separator: ":")),
        "TLS 1.2 cipher suites", tls12Ciphers)
    }
    check(unsafe grenache_ctx_set_groups(context, groups.joined(separator: ":")), "groups", groups)
    return faults
  }

  private func number(_ version: Version) -> Int32 {
    switch version {
    case .tls12: TLS1_2_VERSION
    case .tls13: TLS1_3_VERSION
    }
  }
}
