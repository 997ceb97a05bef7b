internal import COpenSSL
internal import Glibc

/// The certificates, keys and lists of a configuration, loaded and checked.
struct TLSMaterial {
  private(set) var chain: [OpenSSLHandle] = []
  private(set) var key: OpenSSLHandle?
  private(set) var roots: [OpenSSLHandle] = []
  private(set) var revocationLists: [OpenSSLHandle] = []
  private(set) var status: StapledStatus?
  /// What session tickets are sealed with, if it is shared.
  private(set) var sharedSecret: [UInt8]?
  private(set) var keyLog: TLSKeyLog?

  private typealias Fault = TLSConfigurationError.Fault
  private var faults: [Fault] = []
  private let passphrase: TLSPassphrase?

  /// Loads everything and reports every fault found.
  ///
  /// - Parameter isChecked: whether faults are thrown; tests present what they must not.
  init(_ configuration: TLSConfiguration, isChecked: Bool) throws(TLSConfigurationError) {
    passphrase = configuration.passphrase
    chain = loadCertificates(configuration.certificate, "certificate")
    loadKey(configuration.key)
    if let source = configuration.roots {
      roots = loadCertificates(source, "certificate of an authority")
    } else if !configuration.usesSystemRoots {
      faults.append(
        Fault(
          source: "roots", reason: "are not set, so that nobody could be trusted",
          remedy: "Name the authorities, or those of the system."))
    }
    if let lists = configuration.revocationLists { loadRevocationLists(lists) }
    checkLeaf(configuration)
    checkChain(configuration)
    checkIntervals(configuration)
    if let source = configuration.certificateStatus { loadStatus(source, isChecked: isChecked) }
    if let sessions = configuration.sessions { loadSecret(sessions) }
    if let path = configuration.insecureKeyLogFile { openKeyLog(path) }
    guard faults.isEmpty || !isChecked else { throw TLSConfigurationError(faults) }
  }

  /// The end of the leaf's validity, in seconds since 1970.
  var notAfter: Int64? {
    chain.first.map { unsafe grenache_time(X509_get0_notAfter($0.pointer)) }
  }

  /// The leaf's DNS names.
  var dnsNames: [String] {
    guard let leaf = chain.first else { return [] }
    return unsafe subjectAlternativeNames(of: leaf.pointer).compactMap { name in
      if case .dns(let text) = name { text } else { nil }
    }
  }

  private mutating func report(
    _ source: TLSConfiguration.Source, _ reason: String, _ remedy: String
  ) {
    faults.append(Fault(source: source.description, reason: reason, remedy: remedy))
  }

  // MARK: Loading

  /// What a source holds, by its format.
  private enum Content {
    case pem([UInt8])
    case der([UInt8])
    case store(String)
  }

  private mutating func content(of source: TLSConfiguration.Source) -> Content? {
    switch source {
    case .pem(let text):
      return .pem(Array(text.utf8))
    case .der(let bytes):
      return .der(bytes)
    case .store(let uri):
      return .store(uri)
    case .file(let path):
      do {
        let bytes = try FileReader.read(path)
        // DER begins with a SEQUENCE, which no text does that holds PEM.
        let isDER = bytes.first == 0x30 && !bytes.containsPEM
        return isDER ? .der(bytes) : .pem(bytes)
      } catch {
        report(source, error.reason, "Name a readable PEM, DER or PKCS#12 file.")
        return nil
      }
    }
  }

  private mutating func loadCertificates(
    _ source: TLSConfiguration.Source, _ kind: String
  ) -> [OpenSSLHandle] {
    guard let content = content(of: source) else { return [] }
    var certificates: [OpenSSLHandle] = []
    if case .pem(let bytes) = content {
      unsafe readPEM(bytes, source) { bio in
        guard let certificate = unsafe grenache_read_certificate(bio) else { return false }
        unsafe certificates.append(.certificate(certificate))
        return true
      }
    } else {
      certificates = readStore(content, source).certificates
    }
    if certificates.isEmpty, faults.last?.source != source.description {
      report(source, "holds no \(kind)", "Put PEM text (-----BEGIN CERTIFICATE-----) there.")
    }
    return certificates
  }

  private mutating func loadRevocationLists(_ source: TLSConfiguration.Source) {
    guard let content = content(of: source) else { return }
    var lists: [OpenSSLHandle] = []
    if case .pem(let bytes) = content {
      unsafe readPEM(bytes, source) { bio in
        guard let list = unsafe grenache_read_crl(bio) else { return false }
        unsafe lists.append(.crl(list))
        return true
      }
    } else {
      lists = readStore(content, source).lists
    }
    revocationLists = lists
    if lists.isEmpty, faults.last?.source != source.description {
      report(source, "holds no revocation list", "Put PEM text (-----BEGIN X509 CRL-----) there.")
    }
  }

  private mutating func loadKey(_ source: TLSConfiguration.Source) {
    guard let content = content(of: source) else { return }
    guard case .pem(let bytes) = content else {
      key = readStore(content, source).key
      if key == nil, faults.last?.source != source.description {
        report(source, "holds no key", "Name what holds the key of the certificate.")
      }
      return
    }
    ERR_clear_error()
    let isEncrypted = String(decoding: bytes, as: UTF8.self).contains("ENCRYPTED")
    let phrase = isEncrypted ? passphrase?(source) : nil
    let loaded: OpaquePointer? = unsafe bytes.withUnsafeBytes { buffer in
      guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else {
        return nil
      }
      defer { unsafe BIO_free(bio) }
      return unsafe grenache_read_key(bio, phrase)
    }
    if let loaded = unsafe loaded {
      key = unsafe OpenSSLHandle.key(loaded)
      return
    }
    let reasons = takeOpenSSLReasons().joined(separator: "; ")
    switch (isEncrypted, phrase) {
    case (true, nil):
      report(
        source, "holds an encrypted key",
        "Give its passphrase, or decrypt it: openssl pkey -in \(source) -out key.pem.")
    case (true, _?):
      report(source, "cannot be decrypted (\(reasons))", "Give the right passphrase.")
    case (false, _):
      report(
        source, "holds no key that can be read (\(reasons))",
        "Put the PEM text of the key (-----BEGIN PRIVATE KEY-----) there.")
    }
  }

  /// Reads DER, PKCS#12 or a provider's store.
  private mutating func readStore(
    _ content: Content, _ source: TLSConfiguration.Source
  ) -> (certificates: [OpenSSLHandle], key: OpenSSLHandle?, lists: [OpenSSLHandle]) {
    guard let certificates = unsafe grenache_chain_new(), let lists = unsafe grenache_lists_new()
    else { return ([], nil, []) }
    defer {
      unsafe grenache_chain_free(certificates)
      unsafe grenache_lists_free(lists)
    }
    ERR_clear_error()
    var key: OpaquePointer?
    let phrase = passphrase?(source)
    let code: Int32
    if case .der(let bytes) = content {
      unsafe code = bytes.withUnsafeBytes { buffer in
        guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else {
          return 0
        }
        defer { unsafe BIO_free(bio) }
        return unsafe grenache_load_store(bio, nil, phrase, certificates, &key, lists)
      }
    } else {
      guard case .store(let uri) = content else { return ([], nil, []) }
      unsafe code = grenache_load_store(nil, uri, phrase, certificates, &key, lists)
    }
    let keyHandle = unsafe key.map { unsafe OpenSSLHandle.key($0) }
    if code == grenache_store_too_large {
      report(
        source, "holds more than \(grenache_store_objects_max) certificates, keys and lists",
        "Name fewer of them.")
      return ([], nil, [])
    }
    guard code == 1 else {
      let reasons = takeOpenSSLReasons().joined(separator: "; ")
      report(
        source, "cannot be read (\(reasons))",
        phrase == nil
          ? "Write it anew, or give its passphrase if it is encrypted."
          : "Write it anew, or give the right passphrase.")
      return ([], nil, [])
    }
    ERR_clear_error()
    var found: ([OpenSSLHandle], [OpenSSLHandle]) = ([], [])
    for index in 0..<(unsafe grenache_chain_count(certificates)) {
      guard let one = unsafe grenache_chain_at(certificates, index), unsafe X509_up_ref(one) == 1
      else { continue }
      unsafe found.0.append(.certificate(one))
    }
    for index in 0..<(unsafe grenache_lists_count(lists)) {
      guard let one = unsafe grenache_lists_at(lists, index), unsafe X509_CRL_up_ref(one) == 1
      else { continue }
      unsafe found.1.append(.crl(one))
    }
    return (found.0, keyHandle, found.1)
  }

  /// Calls `read` until the input has no more PEM blocks; a block that cannot be read is a fault.
  private mutating func readPEM(
    _ bytes: [UInt8], _ source: TLSConfiguration.Source,
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
      source,
      "PEM block \(count + 1)\(bytes.line(ofPEMBlock: count)) cannot be read (\(reasons))",
      "Write the file anew; it may be cut off.")
  }

  private mutating func loadStatus(_ source: TLSConfiguration.Source, isChecked: Bool) {
    guard let content = content(of: source) else { return }
    let remedy = "Fetch it anew: openssl ocsp -issuer … -cert … -url … -respout FILE."
    guard case .der(let bytes) = content else {
      return report(source, "is no OCSP response in DER", remedy)
    }
    guard isChecked else {
      status = StapledStatus(unchecked: bytes)
      return
    }
    do {
      status = try StapledStatus(bytes, chain: chain, roots: roots, now: wallClock())
    } catch {
      report(source, "is a certificate status that \(error.reason)", remedy)
    }
  }

  private mutating func checkIntervals(_ configuration: TLSConfiguration) {
    let intervals = [configuration.reloadInterval, configuration.reloadPeriod].compactMap(\.self)
    for interval in intervals where interval < .milliseconds(10) {
      faults.append(
        Fault(
          source: "reloading", reason: "every \(interval) is too often",
          remedy: "Choose at least 10 ms."))
    }
  }

  private mutating func loadSecret(_ sessions: TLSSessions) {
    if sessions.lifetime > TLSSessions.lifetimeMax || sessions.lifetime < .seconds(1) {
      faults.append(
        Fault(
          source: "sessions", reason: "have a lifetime of \(sessions.lifetime)",
          remedy: "Choose one second to twelve hours."))
    }
    guard let path = sessions.sharedSecretFile else { return }
    let remedy = "Make one: (umask 077; openssl rand -out \(path) 48)."
    if FileReader.isOpenToOthers(path) {
      report(
        .file(path), "may be read by others, who could be any client with it",
        "Make another one that only this user can read: \(remedy)")
    }
    do {
      let bytes = try FileReader.read(path)
      if TLSSessions.secretBytes.contains(bytes.count) {
        sharedSecret = bytes
      } else {
        report(.file(path), "has \(bytes.count) bytes in place of 32 to 1,024", remedy)
      }
    } catch {
      report(.file(path), error.reason, remedy)
    }
  }

  private mutating func openKeyLog(_ path: String) {
    do {
      keyLog = try TLSKeyLog(path: path)
    } catch {
      report(.file(path), error.reason, "Name a file that may be written.")
    }
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

extension [UInt8] {
  /// Where a block begins, counted from 0, for messages; empty when there is no such block.
  fileprivate func line(ofPEMBlock number: Int) -> String {
    let start = Array("-----BEGIN ".utf8)
    let lines = split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    let starts = lines.indices.filter { lines[$0].starts(with: start) }
    return starts.indices.contains(number) ? ", which begins in line \(starts[number] + 1)," : ""
  }

  /// Whether a PEM block begins somewhere.
  fileprivate var containsPEM: Bool {
    firstRange(of: Array("-----BEGIN ".utf8)) != nil
  }
}

extension TLSMaterial {
  /// Whatever one source holds, for people to look at.
  struct Everything {
    var certificates: [OpenSSLHandle] = []
    var key: OpenSSLHandle?
    var lists: [OpenSSLHandle] = []

    /// - Throws: `TLSConfigurationError` when there is nothing, or nothing that can be read.
    init(
      in source: TLSConfiguration.Source, passphrase: TLSPassphrase?
    ) throws(TLSConfigurationError) {
      var loader = TLSMaterial(passphrase: passphrase)
      guard let content = loader.content(of: source) else {
        throw TLSConfigurationError(loader.faults)
      }
      if case .pem(let bytes) = content {
        let text = String(decoding: bytes, as: UTF8.self)
        if text.contains("CERTIFICATE-----") {
          certificates = loader.loadCertificates(source, "certificate")
        }
        if text.contains("PRIVATE KEY-----") {
          loader.loadKey(source)
          key = loader.key
        }
        if text.contains("X509 CRL-----") {
          loader.loadRevocationLists(source)
          lists = loader.revocationLists
        }
      } else {
        (certificates, key, lists) = loader.readStore(content, source)
      }
      if loader.faults.isEmpty, certificates.isEmpty, key == nil, lists.isEmpty {
        loader.report(source, "holds no certificate, key or revocation list", "Name one that does.")
      }
      guard loader.faults.isEmpty else { throw TLSConfigurationError(loader.faults) }
    }
  }

  private init(passphrase: TLSPassphrase?) {
    self.passphrase = passphrase
  }
}
