internal import COpenSSL

/// Ed25519 by expanded private keys, which is what existing tools keep in their files: the seed that
/// OpenSSL's own interface wants cannot be had from them.
extension Ed25519 {
  /// The secret scalar and the prefix of signatures, 32 bytes each.
  package static let expandedKeyBytes = 64

  /// What a seed is expanded to (RFC 8032 §5.1.5); `nil` for a seed of another size.
  package static func expandedKey(seed: [UInt8]) -> [UInt8]? {
    guard seed.count == seedBytes else { return nil }
    var key = Digest.sha512(seed)
    guard key.count == expandedKeyBytes else { return nil }
    key[0] &= 0xf8
    key[31] = key[31] & 0x3f | 0x40
    return key
  }

  /// The public key of an expanded one; `nil` for another size.
  package static func publicKey(expandedKey key: [UInt8]) -> [UInt8]? {
    guard key.count == expandedKeyBytes else { return nil }
    var publicKey = [UInt8](repeating: 0, count: publicKeyBytes)
    guard unsafe grenache_ed25519_public_key(key, &publicKey) == 1 else { return nil }
    return publicKey
  }

  /// The signature of `message` by an expanded key, the same as by the seed.
  ///
  /// The public key that goes into it is computed, never given: with a wrong one a signature would give
  /// the secret away.
  package static func sign(_ message: [UInt8], expandedKey key: [UInt8]) -> [UInt8]? {
    guard key.count == expandedKeyBytes else { return nil }
    var signature = [UInt8](repeating: 0, count: signatureBytes)
    guard unsafe grenache_ed25519_sign(key, message, message.count, &signature) == 1 else {
      return nil
    }
    return signature
  }
}
