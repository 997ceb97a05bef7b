internal import COpenSSL

/// The providers of OpenSSL that this process computes with (provider(7)).
///
/// They are chosen for the process as a whole, before the first `TLSContext` is made: digests,
/// randomness and every connection then come from them.
public enum TLSProviders: Sendable {
  /// Loads providers by name, `pkcs11` for example, beside those that OpenSSL's own configuration
  /// (`openssl.cnf`) activates. What they store can then be named by `TLSConfiguration.Source.store`.
  ///
  /// - Throws: `TLSConfigurationError` with every provider that cannot be loaded.
  public static func load(_ names: [String]) throws(TLSConfigurationError) {
    var faults: [TLSConfigurationError.Fault] = []
    for name in names {
      ERR_clear_error()
      // An explicit provider would otherwise replace the default one.
      guard unsafe OSSL_PROVIDER_try_load(nil, name, 1) == nil else { continue }
      faults.append(
        TLSConfigurationError.Fault(
          source: "provider \(name)",
          reason: "cannot be loaded (\(takeOpenSSLReasons().joined(separator: "; ")))",
          remedy: "Install it among OpenSSL's modules: openssl list -providers -provider \(name)."))
    }
    guard faults.isEmpty else { throw TLSConfigurationError(faults) }
  }

  /// Has everything computed by the FIPS provider, and what it does not offer refused.
  ///
  /// - Throws: `TLSConfigurationError` when OpenSSL has no FIPS provider that passes its self-test.
  public static func requireFIPS() throws(TLSConfigurationError) {
    try load(["fips", "base"])
    guard EVP_default_properties_enable_fips(nil, 1) == 1 else {
      throw TLSConfigurationError([
        TLSConfigurationError.Fault(
          source: "provider fips",
          reason: "cannot be required (\(takeOpenSSLReasons().joined(separator: "; ")))",
          remedy: "Run openssl fipsinstall, and include its result in openssl.cnf.")
      ])
    }
  }

  /// Whether only what the FIPS provider offers is used.
  public static var isFIPSRequired: Bool {
    EVP_default_properties_is_fips_enabled(nil) == 1
  }
}
