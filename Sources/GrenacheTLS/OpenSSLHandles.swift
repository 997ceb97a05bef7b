internal import COpenSSL

/// One reference to an OpenSSL object, given back at the end.
///
/// Certificates, keys and CRLs are reference-counted by OpenSSL with atomic counts and are not changed
/// after they have been made, so that they may be used from any thread.
@safe
final class OpenSSLHandle: Sendable {
  nonisolated(unsafe) let pointer: OpaquePointer
  private nonisolated(unsafe) let free: (OpaquePointer) -> Void

  /// Takes over the reference.
  init(_ pointer: OpaquePointer, free: @escaping (OpaquePointer) -> Void) {
    unsafe self.pointer = pointer
    unsafe self.free = free
  }

  deinit { unsafe free(pointer) }

  static func certificate(_ pointer: OpaquePointer) -> OpenSSLHandle {
    unsafe OpenSSLHandle(pointer) { unsafe X509_free($0) }
  }

  static func key(_ pointer: OpaquePointer) -> OpenSSLHandle {
    unsafe OpenSSLHandle(pointer) { unsafe EVP_PKEY_free($0) }
  }

  static func crl(_ pointer: OpaquePointer) -> OpenSSLHandle {
    unsafe OpenSSLHandle(pointer) { unsafe X509_CRL_free($0) }
  }
}

/// One entry of OpenSSL's error queue. A reason is a number of its library: the same number means
/// something else in another.
struct OpenSSLError: Hashable {
  var library: Int32
  var reason: Int32
  var text: String?

  init(library: Int32, reason: Int32, text: String? = nil) {
    self.library = library
    self.reason = reason
    self.text = text
  }

  /// Takes the oldest from the queue of this thread; `nil` when it is empty.
  fileprivate static func takeOldest() -> OpenSSLError? {
    let code = ERR_get_error()
    guard code != 0 else { return nil }
    return OpenSSLError(
      library: ERR_GET_LIB(code), reason: ERR_GET_REASON(code),
      text: unsafe ERR_reason_error_string(code).map { unsafe String(cString: $0) })
  }

  /// A reason of OpenSSL as a whole (`ERR_R_…`): no memory, a mistake of its own, or that a library below
  /// has failed, whose own reason comes first.
  var isCommon: Bool { reason >= 1 << ERR_RFLAGS_OFFSET }

  /// The alert that the peer has sent, if it is that.
  var alertFromPeer: Int? {
    guard library == ERR_LIB_SSL, !isCommon, reason >= SSL_AD_REASON_OFFSET else { return nil }
    return Int(reason - SSL_AD_REASON_OFFSET)
  }
}

/// OpenSSL's error queue of this thread, the oldest first; the queue is empty afterwards.
func takeOpenSSLErrors() -> [OpenSSLError] {
  var errors: [OpenSSLError] = []
  while let error = OpenSSLError.takeOldest() { errors.append(error) }
  return errors
}

/// What OpenSSL's error queue of this thread says; the queue is empty afterwards.
func takeOpenSSLReasons() -> [String] { takeOpenSSLErrors().compactMap(\.text) }

/// The same with the field that each reason names.
func takeOpenSSLReasonsWithPlaces() -> [String] {
  var reasons: [String] = []
  var place: UnsafePointer<CChar>?
  while let reason = unsafe grenache_next_reason(&place) {
    let text = unsafe String(cString: reason)
    reasons.append(unsafe place.map { unsafe "\(text) at \(String(cString: $0))" } ?? text)
  }
  return reasons
}

/// The DER of a certificate.
func certificateDER(_ certificate: OpaquePointer) -> [UInt8] {
  var bytes: UnsafeMutablePointer<UInt8>?
  let count = unsafe i2d_X509(certificate, &bytes)
  defer { unsafe CRYPTO_free(bytes, "", 0) }
  guard count > 0, let bytes = unsafe bytes else { return [] }
  return unsafe Array(UnsafeBufferPointer(start: bytes, count: Int(count)))
}

/// A name by RFC 2253, for display only: it is never compared.
func nameText(_ name: OpaquePointer?) -> String {
  guard let name = unsafe name else { return "" }
  var buffer = [CChar](repeating: 0, count: 512)
  let count = unsafe grenache_name_text(name, &buffer, buffer.count)
  return String(
    decoding: buffer[..<min(count, buffer.count)].map(UInt8.init(bitPattern:)), as: UTF8.self)
}
