internal import COpenSSL

/// What a file of certificates, keys and revocation lists holds, for people to look at.
public struct CertificateFile: Hashable, Sendable {
  /// A certificate.
  public struct Certificate: Hashable, Sendable {
    /// The subject, for display.
    public var subject: String
    /// The common name of the subject, empty for none.
    public var commonName: String
    /// The issuer, for display.
    public var issuer: String
    /// The names that it bears.
    public var names: [SubjectAlternativeName]
    /// The beginning of validity, in seconds since 1970.
    public var notBefore: Int64
    /// The end of validity, in seconds since 1970.
    public var notAfter: Int64
    /// The kind of key and its size in bits.
    public var key: String
    /// SHA-256 of the public key (SubjectPublicKeyInfo), as pins and policies name it.
    public var publicKeySHA256: [UInt8]
    /// SHA-256 of the certificate.
    public var fingerprintSHA256: [UInt8]
    /// Whether it may issue certificates.
    public var isAuthority: Bool
  }

  /// A revocation list.
  public struct RevocationList: Hashable, Sendable {
    /// The issuer, for display.
    public var issuer: String
    /// When the next list is due, in seconds since 1970; 0 when it does not say.
    public var nextUpdate: Int64
    /// How many certificates it revokes.
    public var revokedCount: Int
  }

  /// The certificates, in the file's order.
  public var certificates: [Certificate] = []
  /// The kind and size of the key, if there is one that could be read.
  public var key: String?
  /// The revocation lists, in the file's order.
  public var revocationLists: [RevocationList] = []

  /// Reads a PEM, DER or PKCS#12 file.
  ///
  /// - Throws: `TLSConfigurationError` when it cannot be read or holds none of the three.
  public init(_ path: String, passphrase: TLSPassphrase? = nil) throws(TLSConfigurationError) {
    let content = try TLSSourceReader.Everything(in: .file(path), passphrase: passphrase)
    certificates = content.certificates.map { unsafe Certificate($0.pointer) }
    key = content.key.map { unsafe keyText($0.pointer) }
    revocationLists = content.lists.map { unsafe RevocationList($0.pointer) }
  }
}

extension PeerIdentity {
  /// What a certificate says of its bearer, verified by nobody: for tests of handlers and policies.
  ///
  /// - Parameter text: PEM (`CertificateAuthority.Issued.certificate`, for example): the peer's certificate,
  ///   and those of the authorities above it, if any.
  /// - Throws: `TLSConfigurationError` when it holds no certificate, or what cannot be read.
  public init(unverifiedPEM text: String) throws(TLSConfigurationError) {
    let content = try TLSSourceReader.Everything(in: .pem(text), passphrase: nil)
    guard let leaf = content.certificates.first else {
      throw TLSConfigurationError([
        .init(
          source: "PEM in memory", reason: "holds no certificate", remedy: "Name one that does.")
      ])
    }
    unsafe self.init(
      certificate: leaf.pointer,
      chain: content.certificates.map { unsafe certificateDER($0.pointer) },
      issuers: content.certificates.dropFirst().map { unsafe $0.pointer })
  }
}

extension CertificateFile.Certificate {
  /// What DER says; `nil` when it is no certificate.
  init?(der: [UInt8]) {
    let certificate = unsafe der.withUnsafeBufferPointer { buffer in
      var start = buffer.baseAddress
      return unsafe d2i_X509(nil, &start, buffer.count)
    }
    ERR_clear_error()
    guard let certificate = unsafe certificate else { return nil }
    let handle = unsafe OpenSSLHandle.certificate(certificate)
    unsafe self.init(handle.pointer)
  }

  init(_ certificate: OpaquePointer) {
    let identity = unsafe PeerIdentity(certificate: certificate, chain: [])
    subject = identity.subject
    commonName = unsafe commonNameText(X509_get_subject_name(certificate))
    issuer = identity.issuer
    names = identity.names
    notBefore = unsafe grenache_time(X509_get0_notBefore(certificate))
    notAfter = identity.notAfter
    key = unsafe X509_get0_pubkey(certificate).map { unsafe keyText($0) } ?? "unknown"
    publicKeySHA256 = identity.publicKeySHA256
    fingerprintSHA256 = identity.fingerprintSHA256
    isAuthority = unsafe X509_check_ca(certificate) > 0
    ERR_clear_error()
  }
}

extension CertificateFile.RevocationList {
  init(_ list: OpaquePointer) {
    issuer = unsafe nameText(X509_CRL_get_issuer(list))
    nextUpdate = unsafe X509_CRL_get0_nextUpdate(list).map { unsafe grenache_time($0) } ?? 0
    revokedCount = Int(unsafe grenache_revoked_count(list))
  }
}

private func commonNameText(_ name: OpaquePointer?) -> String {
  var buffer = [CChar](repeating: 0, count: 256)
  let count = unsafe X509_NAME_get_text_by_NID(
    name, NID_commonName, &buffer, Int32(buffer.count))
  guard count > 0 else { return "" }
  let bytes = buffer.prefix(min(Int(count), buffer.count - 1)).map(UInt8.init(bitPattern:))
  return String(decoding: bytes, as: UTF8.self)
}

/// The kind of a key and its size.
private func keyText(_ key: OpaquePointer) -> String {
  let kind = unsafe EVP_PKEY_get0_type_name(key).map { unsafe String(cString: $0) } ?? "unknown"
  return "\(kind) \(unsafe EVP_PKEY_get_bits(key)) bits"
}
