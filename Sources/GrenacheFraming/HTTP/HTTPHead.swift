/// One field line of a head: where its name and its value stand in the window.
package struct HTTPFieldRange: Hashable, Sendable {
  package var name: Range<Int>
  /// Without the white space around it.
  package var value: Range<Int>
}

/// How the end of a body is found (RFC 9112 §6.3).
package enum HTTPBodyLength: Hashable, Sendable {
  case none
  case length(Int)
  case chunked
  /// Until the connection closes; responses only.
  case untilClose
}

/// The head of a message, as ranges of the window in which it was parsed.
///
/// The ranges hold until the driver moves the window; what is needed longer is copied.
package struct HTTPHead: Sendable {
  package internal(set) var version = HTTPVersion.http11
  package internal(set) var fields: [HTTPFieldRange] = []
  package internal(set) var bodyLength = HTTPBodyLength.none
  package internal(set) var isKeepAlive = true
  package internal(set) var expectsContinue = false
  package internal(set) var upgradesToWebSocket = false

  // Requests:
  package internal(set) var method = HTTPMethod.get
  /// As it was sent.
  package internal(set) var target = 0..<0
  var targetForm = HTTPTargetForm.origin
  // Responses:
  package internal(set) var status = HTTPStatus.ok

  /// The target without scheme and authority: a path and perhaps a query, or `*` (RFC 9112 §3.2).
  package func originTarget(in window: Span<UInt8>) -> String {
    guard case .absolute(_, _, let rest) = targetForm else {
      return window.extracting(target).string()
    }
    let text = window.extracting(rest).string()
    if rest.isEmpty { return method == .options ? "*" : "/" }
    return window[rest.lowerBound] == slash ? text : "/" + text
  }

  /// The fields, to keep.
  package func ownedFields(in window: Span<UInt8>) -> HTTPFields {
    var owned = HTTPFields()
    for field in fields {
      owned.append(
        window.extracting(field.name).string(),
        HTTPFieldValue.unfolded(window.extracting(field.value)))
    }
    return owned
  }
}

/// What the field lines of a head say about framing; one rule for requests and responses.
struct HTTPFramingFacts {
  var contentLength: Int?
  var isChunked = false
  var hasTransferEncoding = false
  var hostCount = 0
  var closes = false
  var keepsAlive = false
  var upgrades = false
  var upgradeIsWebSocket = false
  var expectsContinue = false

  /// Takes note of a field line. Comparing lengths first leaves most names after one comparison.
  mutating func note(
    _ name: Span<UInt8>, _ value: Span<UInt8>
  ) throws(HTTPError) {
    switch name.count {
    case 4 where name.equalsIgnoringCase("host"):
      hostCount += 1
      guard HTTPAuthority.isValid(value) else {
        throw HTTPError(400, "RFC 9112 §3.2", "an invalid Host")
      }
    case 6 where name.equalsIgnoringCase("expect"):
      guard value.equalsIgnoringCase("100-continue") else {
        throw HTTPError(417, "RFC 9110 §10.1.1", "unknown expectation")
      }
      expectsContinue = true
    case 7 where name.equalsIgnoringCase("upgrade"):
      upgradeIsWebSocket = upgradeIsWebSocket || HTTPFieldValue.hasToken(value, "websocket")
    case 10 where name.equalsIgnoringCase("connection"):
      noteConnection(value)
    case 14 where name.equalsIgnoringCase("content-length"):
      guard contentLength == nil else {
        throw HTTPError(400, "RFC 9112 §6.3", "more than one Content-Length")
      }
      contentLength = try HTTPFieldValue.contentLength(value)
    case 17 where name.equalsIgnoringCase("transfer-encoding"):
      guard !hasTransferEncoding else {
        throw HTTPError(400, "RFC 9112 §6.1", "more than one Transfer-Encoding")
      }
      hasTransferEncoding = true
      guard value.equalsIgnoringCase("chunked") else {
        throw HTTPError(501, "RFC 9112 §6.1", "a transfer coding other than chunked")
      }
      isChunked = true
    default:
      break
    }
  }

  /// The options of `Connection` (RFC 9110 §7.6.1).
  private mutating func noteConnection(_ list: Span<UInt8>) {
    var start = 0
    while let element = HTTPFieldValue.nextElement(of: list, from: &start) {
      let option = list.extracting(element)
      switch option.count {
      case 5: closes = closes || option.equalsIgnoringCase("close")
      case 7: upgrades = upgrades || option.equalsIgnoringCase("upgrade")
      case 10: keepsAlive = keepsAlive || option.equalsIgnoringCase("keep-alive")
      default: break
      }
    }
  }

  /// Both kinds of length at once are how requests are smuggled (RFC 9112 §6.1).
  func check(_ version: HTTPVersion) throws(HTTPError) {
    guard isChunked else { return }
    if contentLength != nil {
      throw HTTPError(400, "RFC 9112 §6.1", "Transfer-Encoding and Content-Length")
    }
    if version == .http10 {
      throw HTTPError(400, "RFC 9112 §6.1", "Transfer-Encoding in HTTP/1.0")
    }
  }

  func isKeepAlive(_ version: HTTPVersion) -> Bool {
    !closes && (version == .http11 || keepsAlive)
  }
}

enum HTTPFieldValue {
  /// A number of bytes: digits only (RFC 9110 §8.6); a list, a sign or an overflow is refused.
  static func contentLength(_ value: Span<UInt8>) throws(HTTPError) -> Int {
    guard value.count > 0 else {
      throw HTTPError(400, "RFC 9110 §8.6", "an empty Content-Length")
    }
    var length = 0
    for index in value.indices {
      guard HTTPCharacters.isDigit(value[index]) else {
        throw HTTPError(400, "RFC 9110 §8.6", "a Content-Length that is not a number")
      }
      let (shifted, overflow) = length.multipliedReportingOverflow(by: 10)
      let (sum, carry) = shifted.addingReportingOverflow(Int(value[index] &- 0x30))
      guard !overflow, !carry else {
        throw HTTPError(413, "RFC 9110 §8.6", "a Content-Length beyond all numbers")
      }
      length = sum
    }
    return length
  }

  /// Whether a comma-separated list has `token`, in either case.
  static func hasToken(_ list: Span<UInt8>, _ token: StaticString) -> Bool {
    var start = 0
    while let element = nextElement(of: list, from: &start) {
      if list.extracting(element).equalsIgnoringCase(token) { return true }
    }
    return false
  }

  /// The element of a comma-separated list that begins at `start`, without the white space around it;
  /// `start` moves behind its comma.
  @inline(__always)
  static func nextElement(of list: Span<UInt8>, from start: inout Int) -> Range<Int>? {
    guard start <= list.count else { return nil }
    var end = start
    while end < list.count, list[end] != comma { end += 1 }
    defer { start = end + 1 }
    return trimmed(list, start..<end)
  }

  /// `range` without the white space at its ends.
  @inline(__always)
  static func trimmed(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Range<Int> {
    var lower = range.lowerBound
    var upper = range.upperBound
    while lower < upper, bytes[lower] == space || bytes[lower] == tab { lower += 1 }
    while upper > lower, bytes[upper - 1] == space || bytes[upper - 1] == tab { upper -= 1 }
    return lower..<upper
  }

  /// The value with each fold of its line replaced by spaces (RFC 9112 §5.2); only responses have any.
  static func unfolded(_ value: Span<UInt8>) -> String {
    for index in value.indices where value[index] == lf {
      var bytes = value.copy()
      for position in bytes.indices where bytes[position] == cr || bytes[position] == lf {
        bytes[position] = space
      }
      let range = trimmed(bytes.span, bytes.indices)
      return bytes.span.extracting(range).string()
    }
    return value.string()
  }
}
