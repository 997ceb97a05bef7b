package import GrenacheDHT

extension DHTCryptography {
  /// Stand-ins of the right sizes, good enough to tell things apart, and fast.
  package static let simulated = DHTCryptography(sha1: { simulatedHash($0, count: 20) }) {
    signature, message, publicKey in
    signature == simulatedHash(publicKey + message, count: 64)
  }
}

/// So many bytes that depend on all of `bytes`.
@Sendable package func simulatedHash(_ bytes: [UInt8], count: Int) -> [UInt8] {
  var state: UInt64 = 0xcbf2_9ce4_8422_2325
  for byte in bytes { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
  var result: [UInt8] = []
  result.reserveCapacity(count)
  while result.count < count {
    state ^= state >> 31
    state = state &* 0x94d0_49bb_1331_11eb
    state ^= state >> 29
    var rest = state
    for _ in 0..<min(8, count - result.count) {
      result.append(UInt8(truncatingIfNeeded: rest))
      rest >>= 8
    }
  }
  return result
}

extension DHTItem {
  /// A mutable item that passes for signed in a simulation.
  package static func simulated(
    _ text: String, key: UInt8, salt: [UInt8] = [], sequence: Int64
  ) -> DHTItem {
    let publicKey = [UInt8](repeating: key, count: 32)
    let value = Bencode(text).encoded
    let message = bytesToSign(value: value, salt: salt, sequence: sequence)
    return DHTItem(
      value: value,
      signature: Signature(
        publicKey: publicKey, salt: salt, sequence: sequence,
        signature: simulatedHash(publicKey + message, count: 64)))
  }
}
