internal import Foundation
internal import GrenacheTLS

/// A text that the DHT keeps (BEP 44), checked: it is what its target says, or its key has signed it.
public struct StoredItem: Hashable, Sendable {
  /// What a mutable item has beside its value.
  public struct Signature: Hashable, Sendable {
    /// Whose item it is: 32 bytes.
    public let publicKey: [UInt8]
    /// Tells items of one key from each other; empty for none.
    public let salt: String
    /// Grows with each change.
    public let sequence: Int64
    /// 64 bytes over the salt, the sequence number and the value.
    public let signature: [UInt8]
  }

  /// The most bytes that a value may have: existing grapes take as many over HTTP.
  public static let valueBytesMax = 999
  /// The most bytes that a salt may have (BEP 44).
  public static let saltBytesMax = 64
  /// The largest sequence number: JSON carries no larger ones exactly.
  public static let sequenceMax: Int64 = 1 << 53

  /// Where it is kept.
  public let target: ItemTarget
  /// The text.
  public let value: String
  /// What makes it mutable; `nil` for an immutable item.
  public let signature: Signature?
  /// The grape's answer as it came.
  package let answer: [UInt8]
}

extension StoredItem {
  private struct Answer: Decodable {
    var v: String
    var k: String?
    var sig: String?
    var seq: Int64?
    var salt: String?
  }

  /// What a grape answers about `target`, which it may have from anybody.
  ///
  /// - Parameter salt: that which was asked for; the one in the answer counts when it was none.
  /// - Throws: `GrenacheError` `invalidItem`, unless the answer proves itself.
  init(_ answer: [UInt8], target: ItemTarget, salt: String) throws(GrenacheError) {
    guard let parts = try? JSONDecoder().decode(Answer.self, from: Data(answer)) else {
      throw GrapeMessages.refusal(answer)
    }
    self.target = target
    value = parts.v
    self.answer = answer
    guard let key = parts.k else {
      guard ItemTarget(of: parts.v) == target else {
        throw GrenacheError(.invalidItem, "the value that came for \(target) is not of that hash")
      }
      signature = nil
      return
    }
    signature = try Self.checked(parts, key: key, target, salt)
  }

  private static func checked(
    _ parts: Answer, key: String, _ target: ItemTarget, _ askedSalt: String
  ) throws(GrenacheError) -> Signature {
    guard let publicKey = Digest.bytes(hex: key, count: Ed25519.publicKeyBytes),
      let bytes = Digest.bytes(hex: parts.sig ?? "", count: Ed25519.signatureBytes),
      let sequence = parts.seq
    else { throw GrenacheError(.invalidItem, "the item that came for \(target) is not whole") }
    let salt = askedSalt.isEmpty ? parts.salt ?? "" : askedSalt
    guard ItemTarget(publicKey: publicKey, salt: salt) == target else {
      throw GrenacheError(
        .invalidItem,
        "the item that came for \(target) is of another key, or its salt is not \"\(salt)\"")
    }
    let message = ItemEncoding.bytesToSign(parts.v, salt: salt, sequence: sequence)
    guard Ed25519.isSignature(bytes, of: message, by: publicKey) else {
      throw GrenacheError(
        .invalidItem, "the signature of the item that came for \(target) is forged")
    }
    return Signature(publicKey: publicKey, salt: salt, sequence: sequence, signature: bytes)
  }
}
