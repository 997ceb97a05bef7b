/// Base 64 (RFC 4648 §4), strict: padded, nothing but the alphabet, no bits left over.
enum Base64 {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func encode(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    var index = 0
    while index < bytes.count {
      let left = bytes.count - index
      let group =
        UInt32(bytes[index]) << 16 | (left > 1 ? UInt32(bytes[index + 1]) << 8 : 0)
        | (left > 2 ? UInt32(bytes[index + 2]) : 0)
      text.append(alphabet[Int(group >> 18 & 63)])
      text.append(alphabet[Int(group >> 12 & 63)])
      text.append(left > 1 ? alphabet[Int(group >> 6 & 63)] : 0x3d)
      text.append(left > 2 ? alphabet[Int(group & 63)] : 0x3d)
      index += 3
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// How many bytes `text` stands for, or `nil` when it is not base 64.
  static func decodedCount(_ text: String) -> Int? {
    var bits: UInt32 = 0
    var symbols = 0
    var padding = 0
    for byte in text.utf8 {
      if byte == 0x3d {
        padding += 1
      } else {
        guard padding == 0, let value = alphabet.firstIndex(of: byte) else { return nil }
        bits = UInt32(value)
        symbols += 1
      }
    }
    guard (symbols + padding) % 4 == 0, padding <= 2 else { return nil }
    // The last symbol carries bits that belong to no byte: they must be zero.
    if padding == 1, bits & 0x03 != 0 { return nil }
    if padding == 2, bits & 0x0f != 0 { return nil }
    return symbols * 6 / 8
  }
}
