/// The forms of a request target that a server without tunnels takes (RFC 9112 §3.2).
enum HTTPTargetForm: Hashable, Sendable {
  /// A path and perhaps a query.
  case origin
  /// A whole URI: where its authority and what follows it stand in the window.
  case absolute(isHTTPS: Bool, authority: Range<Int>, rest: Range<Int>)
  /// `*`, for OPTIONS.
  case asterisk
}

/// Checks request targets.
enum HTTPTarget {
  /// The form of the target in `range`, whose characters have been checked one by one.
  static func form(
    of window: Span<UInt8>, _ range: Range<Int>, method: HTTPMethod
  ) throws(HTTPError) -> HTTPTargetForm {
    switch window[range.lowerBound] {
    case slash:
      return .origin
    case 0x2a:
      guard range.count == 1, method == .options else {
        throw HTTPError(400, "RFC 9112 §3.2.4", "an asterisk that is not OPTIONS *")
      }
      return .asterisk
    default:
      return try absoluteForm(window, range)
    }
  }

  /// `absolute-URI` of the schemes that are spoken (RFC 9112 §3.2.2, RFC 9110 §4.2).
  private static func absoluteForm(
    _ window: Span<UInt8>, _ range: Range<Int>
  ) throws(HTTPError) -> HTTPTargetForm {
    let isHTTP = starts(window, range, "http://")
    let isHTTPS = !isHTTP && starts(window, range, "https://")
    guard isHTTP || isHTTPS else {
      throw HTTPError(400, "RFC 9112 §3.2", "a request target of no known form")
    }
    let start = range.lowerBound + (isHTTP ? 7 : 8)
    var end = start
    while end < range.upperBound, window[end] != slash, window[end] != questionMark { end += 1 }
    let authority = start..<end
    guard HTTPAuthority.isValid(window.extracting(authority)) else {
      throw HTTPError(400, "RFC 9110 §4.2", "an invalid authority in a request target")
    }
    return .absolute(isHTTPS: isHTTPS, authority: authority, rest: end..<range.upperBound)
  }

  /// Whether `range` begins with `%` and two digits that stand for a byte other than NUL.
  static func isEncodedByte(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
    guard range.count >= 3, bytes[range.lowerBound] == percent,
      let high = HTTPCharacters.hexValue(bytes[range.lowerBound + 1]),
      let low = HTTPCharacters.hexValue(bytes[range.lowerBound + 2])
    else { return false }
    return high | low != 0
  }

  private static func starts(
    _ window: Span<UInt8>, _ range: Range<Int>, _ prefix: StaticString
  ) -> Bool {
    let count = prefix.utf8CodeUnitCount
    guard range.count >= count else { return false }
    let end = range.lowerBound + count
    return window.extracting(range.lowerBound..<end).equalsIgnoringCase(prefix)
  }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2), never empty and without user information.
enum HTTPAuthority {
  static func isValid(_ bytes: Span<UInt8>) -> Bool {
    let end = hostEnd(bytes)
    guard end > 0 else { return false }
    if end == bytes.count { return true }
    guard bytes[end] == colon else { return false }
    return bytes.count - end <= 6 && allDigits(bytes, (end + 1)..<bytes.count)
  }

  /// Whether both name the same, the scheme's default port left out or not.
  static func areEqual(_ left: Span<UInt8>, _ right: Span<UInt8>, isHTTPS: Bool) -> Bool {
    let leftEnd = withoutDefaultPort(left, isHTTPS: isHTTPS)
    guard leftEnd == withoutDefaultPort(right, isHTTPS: isHTTPS) else { return false }
    for index in 0..<leftEnd
    where HTTPCharacters.lowercased(left[index]) != HTTPCharacters.lowercased(right[index]) {
      return false
    }
    return true
  }

  private static func withoutDefaultPort(_ bytes: Span<UInt8>, isHTTPS: Bool) -> Int {
    let port: StaticString = isHTTPS ? ":443" : ":80"
    let start = bytes.count - port.utf8CodeUnitCount
    if start > 0, bytes.extracting(start..<bytes.count).equalsIgnoringCase(port) { return start }
    return bytes.count > 0 && bytes[bytes.count - 1] == colon ? bytes.count - 1 : bytes.count
  }

  /// Where the host ends, an address in brackets or a name; 0 when there is none.
  private static func hostEnd(_ bytes: Span<UInt8>) -> Int {
    var index = 0
    if bytes.count > 0, bytes[0] == 0x5b {
      index = 1
      while index < bytes.count, isAddressCharacter(bytes[index]) { index += 1 }
      guard index > 3, index < bytes.count, bytes[index] == 0x5d else { return 0 }
      return index + 1
    }
    while index < bytes.count {
      if HTTPCharacters.isHostName(bytes[index]) {
        index += 1
      } else if HTTPTarget.isEncodedByte(bytes, index..<bytes.count) {
        index += 3
      } else {
        break
      }
    }
    return index
  }

  /// IPv6 with an IPv4 tail; later versions of addresses do not exist.
  private static func isAddressCharacter(_ byte: UInt8) -> Bool {
    HTTPCharacters.hexValue(byte) != nil || byte == colon || byte == 0x2e
  }

  private static func allDigits(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
    for index in range where !HTTPCharacters.isDigit(bytes[index]) { return false }
    return true
  }
}
