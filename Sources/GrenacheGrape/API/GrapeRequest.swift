internal import Foundation

/// What a request to a grape's API asks for, taken from its path and its JSON body.
///
/// The texts and the order of the checks are those of existing grapes: their clients know no others.
enum GrapeRequest: Equatable {
  case announce(key: [UInt8], port: UInt16)
  case lookup(key: [UInt8])

  /// An answer that is known without asking the DHT.
  enum Refusal: Error, Equatable {
    /// 200 with the text as JSON: how grapes say that something is wrong.
    case error(String)
    /// Another status with the bare text.
    case failure(status: Int, String)
  }

  /// How deep a body may be nested; checked before it is decoded.
  static let depthMax = 64
  /// The longest key that the DHT carries in one datagram.
  static let keyBytesMax = 4_096

  static func parse(target: String, body: [UInt8]) -> Result<GrapeRequest, Refusal> {
    Result { () throws(Refusal) -> GrapeRequest in
      let data = try argument(body)
      switch target {
      case "/announce": return try announce(data)
      case "/lookup": return try lookup(data)
      case "/put", "/get":
        throw .error("ERR_GRAPE_NOT_SUPPORTED: this grape does not store values yet")
      default:
        throw .error("ERR_REQ_NOTFOUND")
      }
    }
  }

  /// The member `data` of the body; the rest is ignored.
  private static func argument(_ body: [UInt8]) throws(Refusal) -> Any? {
    let invalid = Refusal.failure(status: 500, "ERR_GRAPE_PAYLOAD_INVALID")
    guard depth(of: body) <= depthMax,
      let value = try? JSONSerialization.jsonObject(
        with: Data(body), options: .fragmentsAllowed)
    else { throw invalid }
    if value is NSNull { throw .failure(status: 500, "the body is null, not an object") }
    return (value as? [String: Any])?["data"]
  }

  /// `[name, port]`; more elements are ignored.
  private static func announce(_ data: Any?) throws(Refusal) -> GrapeRequest {
    guard let list = data as? [Any] else { throw .error("ERR_GRAPE_ANNOUNCE") }
    guard list.count > 1, let port = integer(list[1]) else {
      throw .error("ERR_GRAPE_SERVICE_PORT")
    }
    guard (0...65_535).contains(port) else { throw .error("ERR_GRAPE_SERVICE_PORT") }
    guard let key = key(list[0]) else {
      throw .failure(status: 500, "the service's name must be a string")
    }
    guard key.count <= keyBytesMax else { throw .error("ERR_GRAPE_ANNOUNCE") }
    return .announce(key: key, port: UInt16(port))
  }

  private static func lookup(_ data: Any?) throws(Refusal) -> GrapeRequest {
    guard let name = data as? String, !name.isEmpty, name.utf8.count <= keyBytesMax else {
      throw .error("ERR_GRAPE_LOOKUP")
    }
    return .lookup(key: Array(name.utf8))
  }

  /// A name: a string, or its bytes as a list of numbers.
  private static func key(_ value: Any) -> [UInt8]? {
    if let name = value as? String { return Array(name.utf8) }
    guard let list = value as? [Any], list.count <= keyBytesMax else { return nil }
    var bytes: [UInt8] = []
    for element in list {
      guard let number = integer(element) else { return nil }
      bytes.append(UInt8(truncatingIfNeeded: number))
    }
    return bytes
  }

  /// A whole number, `4005.0` included, but neither `true` nor `"4005"`.
  private static func integer(_ value: Any) -> Int? {
    guard let number = value as? NSNumber, !isBoolean(number) else { return nil }
    return Int(exactly: number.doubleValue)
  }

  private static func isBoolean(_ number: NSNumber) -> Bool {
    unsafe String(cString: number.objCType) == "c"
  }

  /// How deep the arrays and objects of a body are nested, whether or not it is JSON.
  private static func depth(of body: [UInt8]) -> Int {
    var depth = 0
    var deepest = 0
    var isInString = false
    var isEscaped = false
    for byte in body {
      if isInString {
        if isEscaped {
          isEscaped = false
        } else if byte == 0x5c {
          isEscaped = true
        } else if byte == 0x22 {
          isInString = false
        }
      } else if byte == 0x22 {
        isInString = true
      } else if byte == 0x5b || byte == 0x7b {
        depth += 1
        deepest = max(deepest, depth)
      } else if byte == 0x5d || byte == 0x7d {
        depth -= 1
      }
    }
    return deepest
  }
}
