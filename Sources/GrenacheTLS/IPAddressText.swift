internal import Glibc

/// IP addresses as certificates hold them: 4 or 16 bytes.
enum IPAddressText {
  /// The bytes of an address, or `nil` for a name.
  static func bytes(_ text: String) -> [UInt8]? {
    var v4 = in_addr()
    if unsafe inet_pton(AF_INET, text, &v4) == 1 {
      return unsafe withUnsafeBytes(of: v4) { unsafe Array($0) }
    }
    var v6 = in6_addr()
    if unsafe inet_pton(AF_INET6, text, &v6) == 1 {
      return unsafe withUnsafeBytes(of: v6) { unsafe Array($0) }
    }
    return nil
  }

  static func text(_ bytes: [UInt8]) -> String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let family = bytes.count == 4 ? AF_INET : AF_INET6
    let result = unsafe bytes.withUnsafeBytes {
      unsafe inet_ntop(family, $0.baseAddress, &text, socklen_t(text.count))
    }
    guard unsafe result != nil else { return Digest.hex(bytes) }
    return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
