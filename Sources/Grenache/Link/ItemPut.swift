internal import GrenacheFraming
internal import GrenacheTLS

/// An item on its way to a grape: checked and, if it is mutable, signed.
struct ItemPut: Sendable {
  let target: ItemTarget
  let salt: String
  /// `nil` for an immutable item.
  let sequence: Int64?
  /// `{"v":"…"}`, or with `seq`, `k`, `salt`, `sig` and `cas`.
  let data: [UInt8]

  init(_ value: String) throws(GrenacheError) {
    try Self.check(value)
    target = ItemTarget(of: value)
    salt = ""
    sequence = nil
    data = Self.opening(value) + [UInt8(ascii: "}")]
  }

  init(
    _ value: String, key: ItemKeyPair, salt: String, sequence: Int64, compareAndSwap: Int64?
  ) throws(GrenacheError) {
    try Self.check(value)
    guard salt.utf8.count <= StoredItem.saltBytesMax else {
      throw GrenacheError(
        .invalidPayload,
        "a salt has at most \(StoredItem.saltBytesMax) bytes, not \(salt.utf8.count)")
    }
    for number in [sequence, compareAndSwap ?? 0] {
      guard (0...StoredItem.sequenceMax).contains(number) else {
        throw GrenacheError(
          .invalidPayload, "a sequence number is between 0 and \(StoredItem.sequenceMax): \(number)"
        )
      }
    }
    target = ItemTarget(publicKey: key.publicKey, salt: salt)
    self.salt = salt
    self.sequence = sequence
    let signature = try key.sign(
      ItemEncoding.bytesToSign(value, salt: salt, sequence: sequence))
    var data = Self.opening(value)
    data += Array(",\"seq\":\(sequence),\"k\":\"\(Digest.hex(key.publicKey))\"".utf8)
    if !salt.isEmpty {
      data += Array(",\"salt\":".utf8)
      data.appendJSONString(salt)
    }
    data += Array(",\"sig\":\"\(Digest.hex(signature))\"".utf8)
    if let compareAndSwap { data += Array(",\"cas\":\(compareAndSwap)".utf8) }
    self.data = data + [UInt8(ascii: "}")]
  }

  private static func check(_ value: String) throws(GrenacheError) {
    guard value.utf8.count <= StoredItem.valueBytesMax else {
      throw GrenacheError(
        .invalidPayload,
        "a value has at most \(StoredItem.valueBytesMax) bytes, not \(value.utf8.count)")
    }
  }

  private static func opening(_ value: String) -> [UInt8] {
    var data = Array("{\"v\":".utf8)
    data.appendJSONString(value)
    return data
  }
}
