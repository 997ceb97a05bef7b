internal import COpenSSL
internal import Glibc

/// The certificates, keys and lists of a configuration, loaded and checked.
struct TLSMaterial {
  private(set) var chain: [OpenSSLHandle] = []
  private(set) var key: OpenSSLHandle?
  private(set) var roots: [OpenSSLHandle] = []
  private(set) var revocationLists: [OpenSSLHandle] = []

  private typealias Fault = TLSConfigurationError.Fault
  private var faults: [Fault] = []

  /// Loads everything and reports every fault found.
  init(_ configuration: TLSConfiguration) throws(TLSConfigurationError) {
    chain = loadCertificates(configuration.certificate, "certificate")
    loadKey(configuration.key)
    roots = loadCertificates(configuration.roots, "certificate of an authority")
    if let lists = configuration.revocationLists { loadRevocationLists(lists) }
    checkLeaf(configuration)
    checkChain(configuration)
    guard faults.isEmpty else { throw TLSConfigurationError(faults) }
  }

  private mutating func report(
    _ source: TLSConfiguration.Source, _ reason: String, _ remedy: String
  ) {
    faults.append(Fault(source: source.description, reason: reason, remedy: remedy))
  }

  // MARK: Loading

  private mutating func bytes(of source: TLSConfiguration.Source) -> [UInt8]? {
    switch source {
    case .pem(let text):
      return Array(text.utf8)
    case .file(let path):
      do {
        return try FileReader.read(path)
      } catch {
        report(source, error.reason, "Name a readable PEM file.")
        return nil
      }
    }
  }

  private mutating func loadCertificates(
    _ source: TLSConfiguration.Source, _ kind: String
  ) -> [OpenSSLHandle] {
    guard let bytes = bytes(of: source) else { return [] }
    var certificates: [OpenSSLHandle] = []
    unsafe readPEM(bytes, source, "\(kind) \(1)") { bio in
      guard let certificate = unsafe grenache_read_certificate(bio) else { return false }
      unsafe certificates.append(.certificate(certificate))
      return true
    }
    if certificates.isEmpty, faults.last?.source != source.description {
      report(source, "holds no \(kind)", "Put PEM text (-----BEGIN CERTIFICATE-----) there.")
    }
    return certificates
  }

  private mutating func loadRevocationLists(_ source: TLSConfiguration.Source) {
    guard let bytes = bytes(of: source) else { return }
    var lists: [OpenSSLHandle] = []
    unsafe readPEM(bytes, source, "revocation list") { bio in
      guard let list = unsafe grenache_read_crl(bio) else { return false }
      unsafe lists.append(.crl(list))
      return true
    }
    revocationLists = lists
    if lists.isEmpty, faults.last?.source != source.description {
      report(source, "holds no revocation list", "Put PEM text (-----BEGIN X509 CRL-----) there.")
    }
  }

  private mutating func loadKey(_ source: TLSConfiguration.Source) {
    guard let bytes = bytes(of: source) else { return }
    ERR_clear_error()
    let loaded: OpaquePointer? = unsafe bytes.withUnsafeBytes { buffer in
      guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else {
        return nil
      }
      defer { unsafe BIO_free(bio) }
      return unsafe grenache_read_key(bio, nil)
    }
    if let loaded = unsafe loaded {
      key = unsafe OpenSSLHandle.key(loaded)
      return
    }
    let reasons = takeOpenSSLReasons().joined(separator: "; ")
    let isEncrypted = String(decoding: bytes, as: UTF8.self).contains("ENCRYPTED")
    report(
      source, isEncrypted ? "holds an encrypted key" : "holds no key that can be read (\(reasons))",
      isEncrypted
        ? "Decrypt it: openssl pkey -in \(source) -out key.pem."
        : "Put the PEM text of the key (-----BEGIN PRIVATE KEY-----) there.")
  }

  /// Calls `read` until the input has no more PEM blocks; a block that cannot be read is a fault.
  private mutating func readPEM(
    _ bytes: [UInt8], _ source: TLSConfiguration.Source, _ kind: String,
    _ read: (OpaquePointer) -> Bool
  ) {
    ERR_clear_error()
    var count = 0
    let isWhole = unsafe bytes.withUnsafeBytes { buffer in
      guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else {
        return false
      }
      defer { unsafe BIO_free(bio) }
      while unsafe read(bio) { count += 1 }
      return grenache_is_end_of_pem() == 1
    }
    guard !isWhole else { return }
    let reasons = takeOpenSSLReasons().joined(separator: "; ")
    report(
      source, "PEM block \(count + 1) cannot be read (\(reasons))",
      "Write the file anew; it may be cut off.")
  }

  // MARK: Checking

  private mutating func checkLeaf(_ configuration: TLSConfiguration) {
    guard let leaf = chain.first else { return }
    let source = configuration.certificate
    if let key, unsafe X509_check_private_key(leaf.pointer, key.pointer) != 1 {
      ERR_clear_error()
      report(
        configuration.key, "is not the key of the certificate in \(source)",
        "Name the key that the certificate was issued for; the leaf comes first in its file.")
    }
    let now = Int64(time(nil))
    let start = unsafe grenache_time(X509_get0_notBefore(leaf.pointer))
    let end = unsafe grenache_time(X509_get0_notAfter(leaf.pointer))
    if now > end {
      report(source, "expired \(days(now - end)) ago", "Renew it.")
    }
    if now < start {
      report(source, "is not valid for another \(days(start - now))", "Set the clock, or wait.")
    }
    checkStrength(leaf, source)
  }

  private func days(_ seconds: Int64) -> String {
    seconds < 86_400 ? "\(seconds / 60) minutes" : "\(seconds / 86_400) days"
  }

  /// At least 112 bits of security, OpenSSL's level 2 for the key: RSA of 2,048 bits, any P-256.
  private mutating func checkStrength(
    _ certificate: OpenSSLHandle, _ source: TLSConfiguration.Source
  ) {
    guard let key = unsafe X509_get0_pubkey(certificate.pointer) else {
      ERR_clear_error()
      return report(source, "has a key of an unknown kind", "Use ECDSA, Ed25519 or RSA.")
    }
    let bits = unsafe EVP_PKEY_get_security_bits(key)
    if bits < 112 {
      report(
        source, "has a key of \(unsafe EVP_PKEY_get_bits(key)) bits, which is too weak",
        "Use ECDSA P-256, or RSA of at least 2,048 bits.")
    }
  }

  /// Each certificate of the file is to be signed by the one behind it.
  private mutating func checkChain(_ configuration: TLSConfiguration) {
    for (position, pair) in zip(chain, chain.dropFirst()).enumerated() {
      if unsafe X509_check_issued(pair.1.pointer, pair.0.pointer) != X509_V_OK {
        report(
          configuration.certificate,
          "certificate \(position + 2) did not issue certificate \(position + 1)",
          "Order the file: the leaf, then each issuer, without the root.")
      }
    }
    ERR_clear_error()
  }
}
