internal import COpenSSL

/// Reads what sources hold, and collects what is wrong with them.
struct TLSSourceReader {
  /// What was wrong, in the order in which it was found.
  var faults: [TLSConfigurationError.Fault] = []
  private let passphrase: TLSPassphrase?

  init(passphrase: TLSPassphrase?) {
    self.passphrase = passphrase
  }

  mutating func report(
    _ source: TLSConfiguration.Source, _ reason: String, _ remedy: String
  ) {
    faults.append(
      TLSConfigurationError.Fault(source: source.description, reason: reason, remedy: remedy))
  }

  /// What a source holds, by its format.
  enum Content {
    case pem([UInt8])
    case der([UInt8])
    case store(String)
  }

  mutating func content(of source: TLSConfiguration.Source) -> Content? {
    switch source {
    case .pem(let text):
      return pem(Array(text.utf8), source)
    case .der(let bytes):
      return der(bytes, source)
    case .store(let uri):
      return .store(uri)
    case .file(let path):
      do {
        return pemOrDER(try FileReader.read(path), source)
      } catch {
        report(source, error.reason, "Name a readable PEM, DER or PKCS#12 file.")
        return nil
      }
    case .program(let provided):
      guard let bytes = provided.body(()) else {
        report(source, "gives nothing", "Give PEM text, DER or PKCS#12.")
        return nil
      }
      return pemOrDER(bytes, source)
    }
  }

  private mutating func pemOrDER(
    _ bytes: [UInt8], _ source: TLSConfiguration.Source
  ) -> Content? {
    // DER begins with a SEQUENCE, which no text does that holds PEM.
    let isDER = bytes.first == 0x30 && !bytes.containsPEM
    return isDER ? der(bytes, source) : pem(bytes, source)
  }

  private mutating func pem(
    _ bytes: [UInt8], _ source: TLSConfiguration.Source
  ) -> Content? {
    guard let fault = PEMFault(in: bytes) else { return .pem(bytes) }
    report(source, fault.description, Self.writeAnew)
    return nil
  }

  private mutating func der(
    _ bytes: [UInt8], _ source: TLSConfiguration.Source
  ) -> Content? {
    guard let fault = DERFault(in: bytes) else { return .der(bytes) }
    report(source, fault.description, Self.writeAnew)
    return nil
  }

  private static let writeAnew = "Write the file anew; it may be cut off."

  mutating func certificates(
    in source: TLSConfiguration.Source, _ kind: String
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
      certificates = objects(in: content, source).certificates
    }
    if certificates.isEmpty, faults.last?.source != source.description {
      report(source, "holds no \(kind)", "Put PEM text (-----BEGIN CERTIFICATE-----) there.")
    }
    return certificates
  }

  mutating func revocationLists(in source: TLSConfiguration.Source) -> [OpenSSLHandle] {
    guard let content = content(of: source) else { return [] }
    var lists: [OpenSSLHandle] = []
    if case .pem(let bytes) = content {
      unsafe readPEM(bytes, source) { bio in
        guard let list = unsafe grenache_read_crl(bio) else { return false }
        unsafe lists.append(.crl(list))
        return true
      }
    } else {
      lists = objects(in: content, source).lists
    }
    if lists.isEmpty, faults.last?.source != source.description {
      report(source, "holds no revocation list", "Put PEM text (-----BEGIN X509 CRL-----) there.")
    }
    return lists
  }

  mutating func key(in source: TLSConfiguration.Source) -> OpenSSLHandle? {
    guard let content = content(of: source) else { return nil }
    guard case .pem(let bytes) = content else {
      let key = objects(in: content, source).key
      if key == nil, faults.last?.source != source.description {
        report(source, "holds no key", "Name what holds the key of the certificate.")
      }
      return key
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
    if let loaded = unsafe loaded { return unsafe OpenSSLHandle.key(loaded) }
    reportKey(bytes, source, isEncrypted: isEncrypted, hasPassphrase: phrase != nil)
    return nil
  }

  private mutating func reportKey(
    _ bytes: [UInt8], _ source: TLSConfiguration.Source, isEncrypted: Bool, hasPassphrase: Bool
  ) {
    let reasons = takeOpenSSLReasonsWithPlaces().joined(separator: "; ")
    let place = bytes.lineOfPEMKey
    switch (isEncrypted, hasPassphrase) {
    case (true, false):
      report(
        source, "holds an encrypted key",
        "Give its passphrase, or decrypt it: openssl pkey -in \(source) -out key.pem.")
    case (true, true):
      report(source, "cannot be decrypted\(place) (\(reasons))", "Give the right passphrase.")
    case (false, _):
      report(
        source, "holds no key that can be read\(place) (\(reasons))",
        "Put the PEM text of the key (-----BEGIN PRIVATE KEY-----) there.")
    }
  }

  /// Reads DER, PKCS#12 or a provider's store.
  private mutating func objects(
    in content: Content, _ source: TLSConfiguration.Source
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
      reportUnreadable(content, source, hasPassphrase: phrase != nil)
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
    if found.0.isEmpty, keyHandle == nil, found.1.isEmpty, case .der = content {
      reportUnreadable(content, source, hasPassphrase: phrase != nil)
    }
    return (found.0, keyHandle, found.1)
  }

  /// Says which field OpenSSL does not take, for DER of a known kind.
  private mutating func reportUnreadable(
    _ content: Content, _ source: TLSConfiguration.Source, hasPassphrase: Bool
  ) {
    var reasons = takeOpenSSLReasons()
    var kind = ""
    if case .der(let bytes) = content {
      if let known = DERKind(bytes) {
        kind = " as \(known.name)"
        reasons = known.faults(of: bytes) ?? reasons
      } else {
        kind = ": its first element begins no certificate, list, key or PKCS#12"
      }
    }
    report(
      source, "cannot be read\(kind) (\(reasons.joined(separator: "; ")))",
      hasPassphrase
        ? "Write it anew, or give the right passphrase."
        : "Write it anew, or give its passphrase if it is encrypted.")
  }

  /// Calls `read` until the input has no more PEM blocks; a block that cannot be read is a fault.
  private mutating func readPEM(
    _ bytes: [UInt8], _ source: TLSConfiguration.Source,
    _ read: (OpaquePointer) -> Bool
  ) {
    ERR_clear_error()
    var position = 0
    let isWhole = unsafe bytes.withUnsafeBytes { buffer in
      guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else {
        return false
      }
      defer { unsafe BIO_free(bio) }
      while unsafe read(bio) {}
      let left = unsafe BIO_ctrl_pending(bio)
      position = bytes.count - left
      return grenache_is_end_of_pem() == 1
    }
    guard !isWhole else { return }
    let reasons = takeOpenSSLReasonsWithPlaces().joined(separator: "; ")
    let line = bytes.lineOfPEMBlock(before: position)
    report(source, "the PEM block of line \(line) cannot be read (\(reasons))", Self.writeAnew)
  }
}

extension [UInt8] {
  /// The line, counted from 1, in which the last block begins of those that begin before `position`.
  fileprivate func lineOfPEMBlock(before position: Int) -> Int {
    let lines = prefix(position).split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    return (lines.lastIndex { $0.starts(with: "-----BEGIN ".utf8) } ?? 0) + 1
  }

  /// Where the first key begins, for messages; empty when there is none.
  fileprivate var lineOfPEMKey: String {
    let lines = split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    let index = lines.firstIndex { line in
      line.starts(with: "-----BEGIN ".utf8)
        && String(decoding: line, as: UTF8.self).contains("KEY-----")
    }
    return index.map { " in line \($0 + 1)" } ?? ""
  }

  /// Whether a PEM block begins somewhere.
  fileprivate var containsPEM: Bool {
    firstRange(of: Array("-----BEGIN ".utf8)) != nil
  }
}

extension TLSSourceReader {
  /// Whatever one source holds, for people to look at.
  struct Everything {
    var certificates: [OpenSSLHandle] = []
    var key: OpenSSLHandle?
    var lists: [OpenSSLHandle] = []

    /// - Throws: `TLSConfigurationError` when there is nothing, or nothing that can be read.
    init(
      in source: TLSConfiguration.Source, passphrase: TLSPassphrase?
    ) throws(TLSConfigurationError) {
      var reader = TLSSourceReader(passphrase: passphrase)
      guard let content = reader.content(of: source) else {
        throw TLSConfigurationError(reader.faults)
      }
      if case .pem(let bytes) = content {
        let text = String(decoding: bytes, as: UTF8.self)
        if text.contains("CERTIFICATE-----") {
          certificates = reader.certificates(in: source, "certificate")
        }
        if text.contains("PRIVATE KEY-----") {
          key = reader.key(in: source)
        }
        if text.contains("X509 CRL-----") {
          lists = reader.revocationLists(in: source)
        }
      } else {
        (certificates, key, lists) = reader.objects(in: content, source)
      }
      if reader.faults.isEmpty, certificates.isEmpty, key == nil, lists.isEmpty {
        reader.report(source, "holds no certificate, key or revocation list", "Name one that does.")
      }
      guard reader.faults.isEmpty else { throw TLSConfigurationError(reader.faults) }
    }
  }
}
