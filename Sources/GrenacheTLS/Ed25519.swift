internal import COpenSSL

/// Ed25519 signatures (RFC 8032), for values that are stored in the DHT.
package enum Ed25519 {
  package static let publicKeyBytes = 32
  package static let seedBytes = 32
  package static let signatureBytes = 64

  /// Whether `signature` over `message` is of `publicKey`; false for anything of the wrong size.
  package static func isSignature(
    _ signature: [UInt8], of message: [UInt8], by publicKey: [UInt8]
  ) -> Bool {
    guard signature.count == signatureBytes, publicKey.count == publicKeyBytes,
      let key = unsafe EVP_PKEY_new_raw_public_key(
        EVP_PKEY_ED25519, nil, publicKey, publicKey.count)
    else {
      ERR_clear_error()
      return false
    }
    defer { unsafe EVP_PKEY_free(key) }
    guard let context = unsafe EVP_MD_CTX_new() else { return false }
    defer { unsafe EVP_MD_CTX_free(context) }
    let isValid =
      unsafe EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1
      && EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
    ERR_clear_error()
    return isValid
  }

  /// The public key of a private one, which is its seed of 32 bytes; `nil` for another size.
  package static func publicKey(seed: [UInt8]) -> [UInt8]? {
    guard let key = unsafe privateKey(seed) else { return nil }
    defer { unsafe EVP_PKEY_free(key) }
    var bytes = [UInt8](repeating: 0, count: publicKeyBytes)
    var count = publicKeyBytes
    guard unsafe EVP_PKEY_get_raw_public_key(key, &bytes, &count) == 1, count == publicKeyBytes
    else { return nil }
    return bytes
  }

  /// The signature of `message` by a private key, which is its seed of 32 bytes.
  package static func sign(_ message: [UInt8], seed: [UInt8]) -> [UInt8]? {
    guard let key = unsafe privateKey(seed) else { return nil }
    defer { unsafe EVP_PKEY_free(key) }
    guard let context = unsafe EVP_MD_CTX_new() else { return nil }
    defer { unsafe EVP_MD_CTX_free(context) }
    var signature = [UInt8](repeating: 0, count: signatureBytes)
    var count = signatureBytes
    guard unsafe EVP_DigestSignInit(context, nil, nil, nil, key) == 1,
      unsafe EVP_DigestSign(context, &signature, &count, message, message.count) == 1,
      count == signatureBytes
    else { return nil }
    return signature
  }

  private static func privateKey(_ seed: [UInt8]) -> OpaquePointer? {
    guard seed.count == seedBytes else { return nil }
    return unsafe EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count)
  }
}
