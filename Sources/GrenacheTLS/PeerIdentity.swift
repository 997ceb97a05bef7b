internal import COpenSSL

/// A name that a certificate bears (RFC 5280 §4.2.1.6).
public enum SubjectAlternativeName: Hashable, Sendable, CustomStringConvertible {
  /// A DNS name as it stands in the certificate.
  case dns(String)
  /// The 4 or 16 bytes of an IP address.
  case ip([UInt8])
  /// A URI, among them `grenache:<service>`.
  case uri(String)
  /// An e-mail address.
  case email(String)

  /// The kind and the name.
  public var description: String {
    switch self {
    case .dns(let name): "DNS:\(name)"
    case .ip(let bytes): "IP:\(IPAddressText.text(bytes))"
    case .uri(let text): "URI:\(text)"
    case .email(let text): "email:\(text)"
    }
  }
}

/// Who is at the other end of a connection, as its verified certificate says.
public struct PeerIdentity: Hashable, Sendable {
  /// Every name that the certificate bears.
  public let names: [SubjectAlternativeName]
  /// SHA-256 of the public key (SubjectPublicKeyInfo), which stays when a certificate is renewed.
  public let publicKeySHA256: [UInt8]
  /// SHA-256 of the certificate.
  public let fingerprintSHA256: [UInt8]
  /// The subject for display; it is never compared.
  public let subject: String
  /// The issuer for display; it is never compared.
  public let issuer: String
  /// The end of validity, in seconds since 1970.
  public let notAfter: Int64
  /// The end of validity of the certificate or of an authority above it, whichever comes first, in
  /// seconds since 1970.
  package let validUntil: Int64
  /// SHA-256 of the public keys of the authorities above the certificate, as it was verified.
  public let issuerPublicKeysSHA256: [[UInt8]]
  /// The certificates that the peer presented, leaf first, as DER.
  public let chain: [[UInt8]]

  /// What the certificates of `chain` say, leaf first; one that cannot be read is left out.
  public var certificates: [CertificateFile.Certificate] { chain.compactMap { .init(der: $0) } }

  /// The services that URIs `grenache:<service>` name, patterns with a final `*` among them.
  public var services: [String] {
    names.compactMap { name in
      guard case .uri(let text) = name else { return nil }
      return ServicePattern(uri: text)?.description
    }
  }

  /// One name for logs: the first URI, else the first DNS name or address, else the subject.
  public var displayName: String {
    for name in names {
      if case .uri(let text) = name { return text }
    }
    return names.first?.description ?? subject
  }

  init(certificate: OpaquePointer, chain: [[UInt8]], issuers: [OpaquePointer] = unsafe []) {
    issuerPublicKeysSHA256 = unsafe issuers.map { unsafe Digest.sha256(publicKeyInfo(of: $0)) }
    names = unsafe subjectAlternativeNames(of: certificate)
    self.chain = chain
    fingerprintSHA256 = unsafe Digest.sha256(chain.first ?? certificateDER(certificate))
    publicKeySHA256 = unsafe Digest.sha256(publicKeyInfo(of: certificate))
    subject = unsafe nameText(unsafe X509_get_subject_name(certificate))
    issuer = unsafe nameText(unsafe X509_get_issuer_name(certificate))
    let notAfter = unsafe grenache_time(X509_get0_notAfter(certificate))
    self.notAfter = notAfter
    let issuersEnd = unsafe issuers.map { unsafe grenache_time(X509_get0_notAfter($0)) }.min()
    validUntil = min(notAfter, issuersEnd ?? notAfter)
  }
}

func subjectAlternativeNames(of certificate: OpaquePointer) -> [SubjectAlternativeName] {
  guard let names = unsafe grenache_names_of(certificate) else { return [] }
  defer { unsafe grenache_names_free(names) }
  var result: [SubjectAlternativeName] = []
  for index in 0..<(unsafe grenache_names_count(names)) {
    var bytes: UnsafePointer<UInt8>?
    var size = 0
    let kind = unsafe grenache_names_at(names, index, &bytes, &size)
    let content = unsafe Array(UnsafeBufferPointer(start: bytes, count: size))
    if let name = subjectAlternativeName(kind: kind, content) { result.append(name) }
  }
  return result
}

/// A name with a NUL or another byte that has no place in it is no name: it would print as one thing
/// and compare as another.
private func subjectAlternativeName(kind: Int32, _ bytes: [UInt8]) -> SubjectAlternativeName? {
  if kind == GEN_IPADD { return bytes.count == 4 || bytes.count == 16 ? .ip(bytes) : nil }
  guard !bytes.isEmpty, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { return nil }
  let text = String(decoding: bytes, as: UTF8.self)
  switch kind {
  case GEN_DNS: return .dns(text)
  case GEN_URI: return .uri(text)
  case GEN_EMAIL: return .email(text)
  default: return nil
  }
}

private func publicKeyInfo(of certificate: OpaquePointer) -> [UInt8] {
  var bytes: UnsafeMutablePointer<UInt8>?
  let count = unsafe i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &bytes)
  defer { unsafe CRYPTO_free(bytes, "", 0) }
  guard count > 0, let bytes = unsafe bytes else { return [] }
  return unsafe Array(UnsafeBufferPointer(start: bytes, count: Int(count)))
}
