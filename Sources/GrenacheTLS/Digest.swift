internal import COpenSSL

/// Digests, for the layers that may not see OpenSSL.
package enum Digest {
  /// SHA-1 (FIPS 180-4): for protocols that prescribe it, never for security.
  package static func sha1(_ bytes: [UInt8]) -> [UInt8] {
    unsafe digest(bytes, EVP_sha1())
  }

  /// SHA-256 (FIPS 180-4).
  package static func sha256(_ bytes: [UInt8]) -> [UInt8] {
    unsafe digest(bytes, EVP_sha256())
  }

  /// SHA-512 (FIPS 180-4).
  package static func sha512(_ bytes: [UInt8]) -> [UInt8] {
    unsafe digest(bytes, EVP_sha512())
  }

  private static func digest(_ bytes: [UInt8], _ algorithm: OpaquePointer?) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var count: UInt32 = 0
    let code = unsafe bytes.withUnsafeBytes { input in
      unsafe EVP_Digest(input.baseAddress, input.count, &result, &count, algorithm, nil)
    }
    // Fails only for an algorithm that the provider lacks, as SHA-1 may be under FIPS.
    return code == 1 ? Array(result[..<Int(count)]) : []
  }

  /// Lower-case hexadecimal digits.
  package static func hex(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// The bytes of `count` pairs of hexadecimal digits in either case; `nil` for anything else.
  package static func bytes(hex text: String, count: Int) -> [UInt8]? {
    let digits = text.utf8.map { byte -> UInt8? in
      switch byte {
      case 0x30...0x39: byte - 0x30
      case 0x41...0x46: byte - 0x37
      case 0x61...0x66: byte - 0x57
      default: nil
      }
    }
    guard digits.count == 2 * count else { return nil }
    var bytes: [UInt8] = []
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let high = digits[index], let low = digits[index + 1] else { return nil }
      bytes.append(high << 4 | low)
    }
    return bytes
  }
}

/// Random bytes from OpenSSL's generator.
package func secureRandomBytes(_ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  let code = unsafe RAND_bytes(&bytes, Int32(count))
  // Without randomness nothing here is secure: there is no way to go on.
  precondition(code == 1, "the random generator of OpenSSL has failed")
  return bytes
}

/// OpenSSL's generator, drawn from in blocks.
package struct SecureRandomNumberGenerator: RandomNumberGenerator {
  private static let blockBytes = 4_096
  private var block: [UInt8] = []
  private var used = 0

  package init() {}

  package mutating func next() -> UInt64 {
    if used + 8 > block.count {
      block = secureRandomBytes(Self.blockBytes)
      used = 0
    }
    var value: UInt64 = 0
    for index in used..<(used + 8) { value = value << 8 | UInt64(block[index]) }
    used += 8
    return value
  }
}
