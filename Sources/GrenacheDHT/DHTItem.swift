/// A value that the DHT stores (BEP 44): immutable, known by its hash, or mutable, known by a key that
/// signs it.
package struct DHTItem: Hashable, Sendable {
  /// What makes an item mutable.
  package struct Signature: Hashable, Sendable {
    /// An Ed25519 public key of 32 bytes.
    package var publicKey: [UInt8]
    /// At most 64 bytes; empty for none.
    package var salt: [UInt8]
    package var sequence: Int64
    /// 64 bytes.
    package var signature: [UInt8]

    package init(publicKey: [UInt8], salt: [UInt8], sequence: Int64, signature: [UInt8]) {
      self.publicKey = publicKey
      self.salt = salt
      self.sequence = sequence
      self.signature = signature
    }
  }

  /// The value, bencoded.
  package var value: [UInt8]
  package var signature: Signature?

  package init(value: [UInt8], signature: Signature? = nil) {
    self.value = value
    self.signature = signature
  }

  /// The largest value in bytes, itself allowed. Of a string, existing nodes count the content.
  package static let valueBytesMax = 1_000
  package static let saltBytesMax = 64
  package static let publicKeyBytes = 32
  package static let signatureBytes = 64

  /// The bytes that count against the limit.
  package var valueBytes: Int {
    guard let first = value.first, first != UInt8(ascii: "i"), first != UInt8(ascii: "l"),
      first != UInt8(ascii: "d"), let colon = value.firstIndex(of: UInt8(ascii: ":"))
    else { return value.count }
    return value.count - colon - 1
  }

  /// Whether the value can be read where it lies in a message: two dictionaries deep.
  package var isReadable: Bool {
    let message = Array("d1:ad1:v".utf8) + value + Array("ee".utf8)
    return Bencode(decoding: message.span) != nil
  }

  /// Where the item is stored: the hash of the value, or of the key and the salt.
  package func target(_ cryptography: DHTCryptography) -> [UInt8] {
    guard let signature else { return cryptography.sha1(value) }
    return cryptography.sha1(signature.publicKey + signature.salt)
  }

  /// Whether its key has signed it: the salt, the sequence number and the value (BEP 44).
  package func isSigned(_ cryptography: DHTCryptography) -> Bool {
    guard let signature, signature.publicKey.count == Self.publicKeyBytes,
      signature.signature.count == Self.signatureBytes
    else { return false }
    return cryptography.isEd25519Signature(
      signature.signature, signedBytes(signature), signature.publicKey)
  }

  private func signedBytes(_ signature: Signature) -> [UInt8] {
    var bytes: [UInt8] = []
    if !signature.salt.isEmpty {
      bytes.append(ascii: "4:salt")
      bytes.append(bencoded: signature.salt)
    }
    bytes.append(ascii: "3:seq")
    bytes.append(bencoded: signature.sequence)
    bytes.append(ascii: "1:v")
    bytes.append(contentsOf: value)
    return bytes
  }

  /// What is to be signed to make a mutable item of `value`.
  package static func bytesToSign(value: [UInt8], salt: [UInt8], sequence: Int64) -> [UInt8] {
    let unsigned = Signature(publicKey: [], salt: salt, sequence: sequence, signature: [])
    return DHTItem(value: value, signature: unsigned).signedBytes(unsigned)
  }
}

/// The cryptography that a node needs and does not bring.
package struct DHTCryptography: Sendable {
  package var sha1: @Sendable ([UInt8]) -> [UInt8]
  /// Whether a signature of 64 bytes over a message is of that public key (RFC 8032).
  package var isEd25519Signature:
    @Sendable (_ signature: [UInt8], _ message: [UInt8], _ publicKey: [UInt8]) -> Bool

  package init(
    sha1: @escaping @Sendable ([UInt8]) -> [UInt8],
    isEd25519Signature: @escaping @Sendable ([UInt8], [UInt8], [UInt8]) -> Bool
  ) {
    self.sha1 = sha1
    self.isEd25519Signature = isEd25519Signature
  }
}
