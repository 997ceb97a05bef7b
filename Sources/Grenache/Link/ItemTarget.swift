internal import GrenacheTLS

/// Where the DHT keeps an item (BEP 44): the SHA-1 of an immutable value, or of the public key and the
/// salt of a mutable one.
public struct ItemTarget: Hashable, Sendable, LosslessStringConvertible {
  /// 20 bytes.
  public let bytes: [UInt8]

  /// That of a text that is stored as an immutable item.
  public init(of value: String) {
    bytes = Digest.sha1(ItemEncoding.value(value))
  }

  /// That of what a key signs.
  ///
  /// - Parameters:
  ///   - publicKey: the key's 32 bytes.
  ///   - salt: tells items of one key from each other; empty for none.
  public init(publicKey: [UInt8], salt: String = "") {
    bytes = Digest.sha1(publicKey + Array(salt.utf8))
  }

  /// Parses 40 hexadecimal digits in either case; `nil` for anything else.
  public init?(_ description: String) {
    guard let bytes = Digest.bytes(hex: description, count: 20) else { return nil }
    self.bytes = bytes
  }

  /// 40 hexadecimal digits in lower case.
  public var description: String { Digest.hex(bytes) }
}

/// The bytes that are hashed and signed (BEP 44).
enum ItemEncoding {
  /// A text in bencoding: its length in bytes, a colon, and itself.
  static func value(_ text: String) -> [UInt8] {
    Array("\(text.utf8.count):\(text)".utf8)
  }

  /// What the key of a mutable item signs.
  static func bytesToSign(_ value: String, salt: String, sequence: Int64) -> [UInt8] {
    let saltPart = salt.isEmpty ? [] : Array("4:salt".utf8) + self.value(salt)
    return saltPart + Array("3:seqi\(sequence)e1:v".utf8) + self.value(value)
  }
}
