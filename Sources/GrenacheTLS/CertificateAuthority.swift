internal import COpenSSL
internal import Glibc

/// A certificate authority for development and tests: an ECDSA P-256 root made in process, whose key
/// lives in memory unless it is written.
///
/// It has no policy, keeps no record but its revocation list, and signs whatever it is asked to: not
/// for production.
@safe
public final class CertificateAuthority: Sendable {
  /// What a leaf certificate is issued for.
  public struct Leaf: Hashable, Sendable {
    /// The common name, for display only.
    public var commonName: String
    /// DNS names.
    public var dnsNames: [String]
    /// IPv4 or IPv6 addresses as text.
    public var ipAddresses: [String]
    /// Services, each a URI `grenache:<service>`; a final `*` covers every name that begins so.
    public var services: [String]
    /// Further URIs, as they are.
    public var uris: [String] = []
    /// From now until then (default 90 days).
    public var lifetime = Duration.seconds(90 * 86_400)

    /// A leaf for both ends of a connection.
    public init(
      commonName: String, dnsNames: [String] = [], ipAddresses: [String] = [],
      services: [String] = []
    ) {
      self.commonName = commonName
      self.dnsNames = dnsNames
      self.ipAddresses = ipAddresses
      self.services = services
    }
  }

  /// A certificate and its key, as PEM.
  public struct Issued: Hashable, Sendable {
    /// The certificate.
    public var certificate: String
    /// The key, unencrypted.
    public var key: String
  }

  /// OpenSSL failed, a name cannot stand in a certificate, or a file cannot be written.
  public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
    /// What failed.
    public var description: String
    /// Whether it was a file or a folder that could not be made.
    package var isOfFile = false
  }

  /// The root certificate, as PEM.
  public let certificatePEM: String

  private let certificate: OpenSSLHandle
  private let key: OpenSSLHandle
  private static let clockSkewSeconds = 300
  /// How long a revocation list is good for.
  private static let listLifetimeSeconds = 365 * 86_400

  /// Makes a new root, which is good for ten years.
  public convenience init(commonName: String = "Grenache development CA") throws(Failure) {
    try self.init(commonName: commonName, lifetime: .seconds(3_650 * 86_400))
  }

  /// An authority of the same key with a certificate of its own: by the same name, what this one has issued
  /// is good by that one, too.
  func renewed(commonName: String, lifetime: Duration) throws(Failure) -> CertificateAuthority {
    try CertificateAuthority(commonName: commonName, lifetime: lifetime, key: key)
  }

  /// Makes a new root.
  init(
    commonName: String, lifetime: Duration, key known: OpenSSLHandle? = nil
  ) throws(Failure) {
    key = if let known { known } else { try Self.makeKey() }
    let certificate = try Self.makeCertificate(
      subject: commonName, issuer: nil, key: key, issuerKey: key, lifetime: lifetime)
    try Self.addExtension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE")
    try Self.addExtension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign")
    try Self.addExtension(certificate, certificate, NID_subject_key_identifier, "hash")
    try Self.sign(certificate, key)
    self.certificate = certificate
    certificatePEM = unsafe try Self.pem { unsafe PEM_write_bio_X509($0, certificate.pointer) }
  }

  /// The authority that `write(toDirectory:)` has kept.
  public init(directory path: String) throws(TLSConfigurationError) {
    let found = try TLSSourceReader.Everything(in: .file("\(path)/ca.pem"), passphrase: nil)
    let kept = try TLSSourceReader.Everything(in: .file("\(path)/ca-key.pem"), passphrase: nil)
    guard let certificate = found.certificates.first, let key = kept.key,
      unsafe X509_check_private_key(certificate.pointer, key.pointer) == 1
    else {
      ERR_clear_error()
      throw TLSConfigurationError([
        .init(
          source: path, reason: "holds no authority: ca.pem and its key ca-key.pem",
          remedy: "Name the folder that was made with the authority.")
      ])
    }
    self.certificate = certificate
    self.key = key
    let text = try? unsafe Self.pem { unsafe PEM_write_bio_X509($0, certificate.pointer) }
    certificatePEM = text ?? ""
  }

  /// Keeps the authority in a directory, its key readable by the owner alone.
  public func write(toDirectory path: String) throws(Failure) {
    try FileWriter.makeDirectory(path)
    try FileWriter.write(certificatePEM, to: "\(path)/ca.pem", mode: 0o644)
    let text = unsafe try Self.pem {
      unsafe PEM_write_bio_PrivateKey($0, key.pointer, nil, nil, 0, nil, nil)
    }
    try FileWriter.write(text, to: "\(path)/ca-key.pem", mode: 0o600)
  }

  /// Issues anew, with a new key, what a directory holds, and writes it there.
  ///
  /// - Parameters:
  ///   - path: the directory.
  ///   - lifetime: how long it is good for; `nil` for as long as the old one was.
  /// - Throws: `Failure`, also where `cert.pem` holds no certificate; `TLSConfigurationError` when it cannot
  ///   be read.
  public func renew(inDirectory path: String, lifetime: Duration? = nil) throws {
    let old = try CertificateFile("\(path)/cert.pem").certificates
    guard let old = old.first else {
      throw Failure(description: "\(path)/cert.pem holds no certificate")
    }
    var leaf = Leaf(commonName: old.commonName)
    leaf.lifetime = lifetime ?? Self.lifetime(of: old)
    for name in old.names {
      switch name {
      case .dns(let text): leaf.dnsNames.append(text)
      case .ip(let bytes): leaf.ipAddresses.append(IPAddressText.text(bytes))
      case .uri(let text):
        leaf.uris.append(text)
      case .email: break
      }
    }
    try write(leaf, toDirectory: path)
  }

  /// For how long a certificate was issued; one without a sensible span gets the default.
  private static func lifetime(of certificate: CertificateFile.Certificate) -> Duration {
    let (span, isOver) = certificate.notAfter.subtractingReportingOverflow(certificate.notBefore)
    let seconds = isOver ? 0 : Int(span) - clockSkewSeconds
    return seconds > 0 ? .seconds(seconds) : Leaf(commonName: "").lifetime
  }

  /// Revokes the certificate in a file: gives the list, as PEM, of what `list` revokes and this one.
  ///
  /// - Throws: `Failure` for a certificate, and for a list, that this authority has not signed: nobody
  ///   would look for it in this authority's list.
  /// - Parameters:
  ///   - file: the file of the certificate.
  ///   - list: the file of the list so far, which need not be there.
  public func revoke(_ file: String, list: String) throws -> String {
    let certificates = try TLSSourceReader.Everything(in: .file(file), passphrase: nil).certificates
    guard let certificate = certificates.first else {
      throw Failure(description: "\(file) holds no certificate")
    }
    guard hasIssued(certificate) else {
      throw Failure(
        description:
          "\(file) was not issued by this authority: only the one that issued it can revoke it")
    }
    var old: OpenSSLHandle?
    if FileReader.exists(list) {
      old = try TLSSourceReader.Everything(in: .file(list), passphrase: nil).lists.first
      guard let old, hasSigned(list: old) else {
        throw Failure(
          description: "\(list) is not a revocation list of this authority: name another file")
      }
    }
    let made = unsafe grenache_revoke(
      old?.pointer, self.certificate.pointer, key.pointer, certificate.pointer,
      Self.listLifetimeSeconds)
    guard let made = unsafe made else { throw Self.failure("making the list") }
    defer { unsafe X509_CRL_free(made) }
    return unsafe try Self.pem { unsafe PEM_write_bio_X509_CRL($0, made) }
  }

  private func hasIssued(_ other: OpenSSLHandle) -> Bool {
    defer { ERR_clear_error() }
    return unsafe X509_check_issued(certificate.pointer, other.pointer) == X509_V_OK
      && X509_verify(other.pointer, X509_get0_pubkey(certificate.pointer)) == 1
  }

  private func hasSigned(list: OpenSSLHandle) -> Bool {
    defer { ERR_clear_error() }
    let names = unsafe (
      X509_CRL_get_issuer(list.pointer), X509_get_subject_name(certificate.pointer)
    )
    return unsafe X509_NAME_cmp(names.0, names.1) == 0
      && X509_CRL_verify(list.pointer, X509_get0_pubkey(certificate.pointer)) == 1
  }

  /// Issues a certificate with a new key.
  public func issue(_ leaf: Leaf) throws(Failure) -> Issued {
    let key = try Self.makeKey()
    let issued = try Self.makeCertificate(
      subject: leaf.commonName, issuer: certificate, key: key, issuerKey: self.key,
      lifetime: leaf.lifetime)
    try Self.addExtension(issued, certificate, NID_basic_constraints, "critical,CA:FALSE")
    try Self.addExtension(issued, certificate, NID_key_usage, "critical,digitalSignature")
    try Self.addExtension(issued, certificate, NID_ext_key_usage, "serverAuth,clientAuth")
    try Self.addExtension(issued, certificate, NID_subject_key_identifier, "hash")
    try Self.addExtension(issued, certificate, NID_authority_key_identifier, "keyid")
    try Self.addNames(leaf, to: issued)
    try Self.sign(issued, self.key)
    return unsafe Issued(
      certificate: try Self.pem { unsafe PEM_write_bio_X509($0, issued.pointer) },
      key: unsafe try Self.pem {
        unsafe PEM_write_bio_PrivateKey($0, key.pointer, nil, nil, 0, nil, nil)
      })
  }

  /// Issues a certificate and gives the configuration that uses it, all in memory.
  public func configuration(for leaf: Leaf) throws(Failure) -> TLSConfiguration {
    let issued = try issue(leaf)
    return TLSConfiguration(
      certificate: .pem(issued.certificate), key: .pem(issued.key), roots: .pem(certificatePEM))
  }

  /// Issues a certificate into a directory by the convention of `TLSConfiguration.directory`; the key
  /// can be read by its owner alone.
  public func write(_ leaf: Leaf, toDirectory path: String) throws(Failure) {
    let issued = try issue(leaf)
    try FileWriter.makeDirectory(path)
    try FileWriter.write(certificatePEM, to: "\(path)/ca.pem", mode: 0o644)
    try FileWriter.write(issued.certificate, to: "\(path)/cert.pem", mode: 0o644)
    try FileWriter.write(issued.key, to: "\(path)/key.pem", mode: 0o600)
  }

  // MARK: Steps

  private static func makeKey() throws(Failure) -> OpenSSLHandle {
    guard let key = unsafe grenache_new_p256() else { throw failure("making a key") }
    return unsafe .key(key)
  }

  private static func makeCertificate(
    subject: String, issuer: OpenSSLHandle?, key: OpenSSLHandle, issuerKey: OpenSSLHandle,
    lifetime: Duration
  ) throws(Failure) -> OpenSSLHandle {
    guard let pointer = unsafe X509_new() else { throw failure("making a certificate") }
    let certificate = unsafe OpenSSLHandle.certificate(pointer)
    guard let name = unsafe X509_get_subject_name(pointer),
      unsafe X509_set_version(pointer, 2) == 1,
      unsafe X509_NAME_add_entry_by_txt(
        name, "CN", MBSTRING_UTF8, Array(subject.utf8), Int32(subject.utf8.count), -1, 0) == 1,
      unsafe X509_set_issuer_name(
        pointer, issuer.map { unsafe X509_get_subject_name($0.pointer) } ?? name) == 1,
      unsafe X509_set_pubkey(pointer, key.pointer) == 1,
      unsafe X509_gmtime_adj(X509_getm_notBefore(pointer), -clockSkewSeconds) != nil,
      unsafe X509_gmtime_adj(
        X509_getm_notAfter(pointer), Int(clamping: lifetime.components.seconds)) != nil
    else { throw failure("filling in a certificate") }
    unsafe try setSerial(pointer)
    return certificate
  }

  /// A positive random serial number of 16 bytes (RFC 5280 §4.1.2.2).
  private static func setSerial(_ certificate: OpaquePointer) throws(Failure) {
    var bytes = secureRandomBytes(16)
    bytes[0] &= 0x7f
    bytes[0] |= 0x40
    guard let number = unsafe BN_bin2bn(bytes, 16, nil) else { throw failure("a serial number") }
    defer { unsafe BN_free(number) }
    guard unsafe BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nil else {
      throw failure("a serial number")
    }
  }

  private static func addExtension(
    _ certificate: OpenSSLHandle, _ issuer: OpenSSLHandle, _ kind: Int32, _ value: String
  ) throws(Failure) {
    guard unsafe grenache_add_extension(certificate.pointer, issuer.pointer, kind, value) == 1
    else {
      throw failure("the extension \(value)")
    }
  }

  private static func addNames(_ leaf: Leaf, to certificate: OpenSSLHandle) throws(Failure) {
    guard let names = unsafe grenache_names_new() else { throw failure("making names") }
    defer { unsafe grenache_names_free(names) }
    var entries: [(Int32, [UInt8])] = leaf.dnsNames.map { (GEN_DNS, Array($0.utf8)) }
    for text in leaf.ipAddresses {
      guard let bytes = IPAddressText.bytes(text) else {
        throw Failure(description: "\(text) is not an IP address")
      }
      entries.append((GEN_IPADD, bytes))
    }
    for service in leaf.services { entries.append((GEN_URI, Array(serviceURI(service).utf8))) }
    for uri in leaf.uris { entries.append((GEN_URI, Array(uri.utf8))) }
    guard !entries.isEmpty else { return }
    for (kind, bytes) in entries {
      guard unsafe grenache_names_add(names, kind, bytes, bytes.count) == 1 else {
        throw failure("adding a name")
      }
    }
    guard unsafe grenache_set_names(certificate.pointer, names) == 1 else {
      throw failure("setting names")
    }
  }

  private static func serviceURI(_ service: String) -> String {
    guard service.hasSuffix("*") else { return ServicePattern.uri(for: service) }
    return ServicePattern.uri(for: String(service.dropLast())) + "*"
  }

  private static func sign(_ certificate: OpenSSLHandle, _ key: OpenSSLHandle) throws(Failure) {
    guard unsafe X509_sign(certificate.pointer, key.pointer, EVP_sha256()) > 0 else {
      throw failure("signing")
    }
  }

  private static func pem(_ write: (OpaquePointer) -> Int32) throws(Failure) -> String {
    guard let bio = unsafe BIO_new(BIO_s_mem()) else { throw failure("writing PEM") }
    defer { unsafe BIO_free(bio) }
    guard unsafe write(bio) == 1 else { throw failure("writing PEM") }
    var bytes: UnsafePointer<UInt8>?
    let count = unsafe grenache_bio_bytes(bio, &bytes)
    return unsafe String(
      decoding: UnsafeBufferPointer(start: bytes, count: max(0, count)), as: UTF8.self)
  }

  private static func failure(_ what: String) -> Failure {
    let reasons = takeOpenSSLReasons().joined(separator: "; ")
    return Failure(description: "\(what) failed: \(reasons)")
  }
}
