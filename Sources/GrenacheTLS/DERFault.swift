internal import COpenSSL

/// The first place at which the elements of DER do not fit together (X.690 §8.1), for messages.
///
/// It reads what OpenSSL has refused, and allows what PKCS#12 files have of BER.
struct DERFault: Hashable {
  /// Constructed elements within one another.
  static let depthMax = 64

  /// Where the element begins, counted from 0.
  var offset: Int
  var reason: String

  /// `nil` when every element is whole.
  init?(in bytes: [UInt8]) {
    guard !bytes.isEmpty else {
      self.init(at: 0, "there is nothing")
      return
    }
    var walk = Walk(bytes)
    do throws(DERFault) {
      try walk.toEnd()
      return nil
    } catch {
      self = error
    }
  }

  private init(at offset: Int, _ reason: String) {
    self.offset = offset
    self.reason = reason
  }
}

extension DERFault: Error, CustomStringConvertible {
  var description: String { "at byte \(offset) \(reason)" }
}

extension DERFault {
  /// Where the elements begin that the first element of `bytes` consists of.
  static func children(of bytes: [UInt8]) -> [Int] {
    var walk = Walk(bytes)
    return walk.children()
  }

  /// The head of an element.
  private struct Element {
    var start: Int
    var isConstructed: Bool
    /// `nil` for the indefinite form (§8.1.3.6).
    var end: Int?
    /// Where its content begins.
    var content: Int
    /// Whether it ends one of indefinite length.
    var isEndOfContents: Bool
  }

  private struct Walk {
    private let bytes: [UInt8]
    private var offset = 0
    /// The ends of the elements around the next one; `nil` for one of indefinite length.
    private var enclosing: [Int?] = []

    init(_ bytes: [UInt8]) {
      self.bytes = bytes
    }

    /// How far the next element may reach.
    private var limit: Int {
      for end in enclosing.reversed() {
        if let end { return end }
      }
      return bytes.count
    }

    mutating func toEnd() throws(DERFault) {
      while true {
        while let end = enclosing.last, end == offset { enclosing.removeLast() }
        guard offset < limit else {
          guard enclosing.isEmpty else {
            throw DERFault(at: offset, "the end of an element of indefinite length is missing")
          }
          return
        }
        try step()
      }
    }

    mutating func children() -> [Int] {
      var offsets: [Int] = []
      do throws(DERFault) {
        try step()
        let depth = enclosing.count
        while offset < limit, enclosing.count >= depth {
          while enclosing.count > depth, let end = enclosing.last, end == offset {
            enclosing.removeLast()
          }
          guard offset < limit else { break }
          if enclosing.count == depth { offsets.append(offset) }
          try step()
        }
      } catch {}
      return offsets
    }

    private mutating func step() throws(DERFault) {
      let element = try head()
      if element.isEndOfContents, let around = enclosing.last, around == nil {
        enclosing.removeLast()
        offset = element.content
      } else if element.isConstructed {
        guard enclosing.count < DERFault.depthMax else {
          throw DERFault(at: element.start, "elements are nested too deeply")
        }
        enclosing.append(element.end)
        offset = element.content
      } else {
        offset = element.end ?? element.content
      }
    }

    private func head() throws(DERFault) -> Element {
      var next = offset
      let identifier = try byte(&next)
      if identifier & 0x1f == 0x1f {
        while try byte(&next) & 0x80 != 0 {}
      }
      let isConstructed = identifier & 0x20 != 0
      guard let length = try length(&next) else {
        guard isConstructed else {
          throw DERFault(at: offset, "an element that cannot be has an indefinite length")
        }
        return Element(
          start: offset, isConstructed: true, end: nil, content: next, isEndOfContents: false)
      }
      guard length <= limit - next else {
        throw DERFault(
          at: offset, "an element of \(length) bytes begins, where \(limit - next) are left")
      }
      return Element(
        start: offset, isConstructed: isConstructed, end: next + length, content: next,
        isEndOfContents: identifier == 0 && length == 0)
    }

    private func byte(_ next: inout Int) throws(DERFault) -> UInt8 {
      guard next < limit else {
        throw DERFault(at: offset, "an element begins that is cut off in its head")
      }
      defer { next += 1 }
      return bytes[next]
    }

    /// The length octets (§8.1.3); `nil` for the indefinite form.
    private func length(_ next: inout Int) throws(DERFault) -> Int? {
      let first = try byte(&next)
      if first < 0x80 { return Int(first) }
      if first == 0x80 { return nil }
      var length = 0
      for _ in 0..<(first & 0x7f) {
        guard length <= Int.max >> 8 else {
          throw DERFault(at: offset, "an element has a length that nothing has")
        }
        length = length << 8 | Int(try byte(&next))
      }
      return length
    }
  }
}

/// What the first elements of a file say that it is.
enum DERKind: Int32 {
  case certificate
  case revocationList
  case key
  case encryptedKey
  case bundle

  /// For bytes whose elements are whole; `nil` when they are none of these.
  init?(_ bytes: [UInt8]) {
    guard let outer = Self.content(bytes, at: 0), bytes[0] == 0x30, outer < bytes.count else {
      return nil
    }
    switch bytes[outer] {
    case 0x02:
      // PFX has version 3 (RFC 7292 §4), keys have less.
      self = bytes.dropFirst(outer).starts(with: [0x02, 0x01, 0x03]) ? .bundle : .key
    case 0x30:
      guard let inner = Self.content(bytes, at: outer), inner < bytes.count else { return nil }
      switch bytes[inner] {
      case 0xa0: self = .certificate
      case 0x06: self = .encryptedKey
      default: self = .revocationList
      }
    default:
      return nil
    }
  }

  var name: String {
    switch self {
    case .certificate: "a certificate"
    case .revocationList: "a revocation list"
    case .key: "a key"
    case .encryptedKey: "an encrypted key"
    case .bundle: "PKCS#12"
    }
  }

  /// Which fields of `bytes` are not as they are in that kind; `nil` when all are.
  func faults(of bytes: [UInt8]) -> [String]? {
    ERR_clear_error()
    let isOfKind = unsafe bytes.withUnsafeBufferPointer {
      unsafe grenache_check_der(rawValue, $0.baseAddress, $0.count)
    }
    // Of DER, unlike of a URI, nothing is named that could be secret.
    let faults = takeOpenSSLReasonsWithPlaces()
    guard isOfKind == 1 else { return faults }
    guard self == .key else { return nil }
    // RFC 5958 §2: version, algorithm, private key.
    let places = DERFault.children(of: bytes).dropFirst().prefix(2).map { "at byte \($0)" }
    return ["what stands \(places.joined(separator: " and ")) is no algorithm with its key"]
  }

  /// Where the content begins of the element at `offset`.
  private static func content(_ bytes: [UInt8], at offset: Int) -> Int? {
    guard offset + 1 < bytes.count else { return nil }
    let first = bytes[offset + 1]
    return first <= 0x80 ? offset + 2 : offset + 2 + Int(first & 0x7f)
  }
}
