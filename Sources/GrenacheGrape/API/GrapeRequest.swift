internal import Foundation
internal import GrenacheDHT
internal import GrenacheIO
internal import GrenacheTLS

/// What a request to a grape's API asks for, taken from its path and its JSON body.
///
/// The texts and the order of the checks are those of existing grapes: their clients know no others.
enum GrapeRequest: Equatable {
  /// - Parameter address: where the service is, if the caller says so.
  case announce(key: [UInt8], port: UInt16, address: SocketAddress?)
  case withdraw(key: [UInt8], port: UInt16, address: SocketAddress?)
  case lookup(key: [UInt8])
  case put(DHTItem, compareAndSwap: Int64?)
  case get(target: [UInt8], salt: [UInt8]?, usesOwnStore: Bool)

  /// An answer that is known without asking the DHT.
  enum Refusal: Error, Equatable {
    /// 200 with the text as JSON: how grapes say that something is wrong.
    case error(String)
    /// Another status with the bare text.
    case failure(status: Int, String)
    /// 200 without a body: how grapes say that they have no such value.
    case empty
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
      case "/withdraw": return try withdraw(data)
      case "/lookup": return try lookup(data)
      case "/put": return try put(data)
      case "/get": return try get(data)
      default: throw .error("ERR_REQ_NOTFOUND")
      }
    }
  }

  /// The member `data` of the body; the rest is ignored.
  static func argument(_ body: [UInt8]) throws(Refusal) -> Any? {
    let invalid = Refusal.failure(status: 500, "ERR_GRAPE_PAYLOAD_INVALID")
    // Foundation would take UTF-16 and UTF-32 as well, of which the depth is not known (RFC 8259 §8.1).
    guard !body.contains(0), String(validating: body, as: UTF8.self) != nil,
      JSONDepth.of(body) <= depthMax,
      let value = try? JSONSerialization.jsonObject(
        with: Data(body), options: .fragmentsAllowed)
    else { throw invalid }
    if value is NSNull { throw .failure(status: 500, nullProperty("data")) }
    return (value as? [String: Any])?["data"]
  }

  /// What existing grapes answer where a member of nothing is asked for.
  private static func nullProperty(_ name: String) -> String {
    "Cannot read properties of null (reading '\(name)')"
  }
  private static func undefinedProperty(_ name: String) -> String {
    "Cannot read properties of undefined (reading '\(name)')"
  }

  // MARK: Services

  /// `[name, port]`, and optionally where the service is; more elements are ignored.
  private static func announce(_ data: Any?) throws(Refusal) -> GrapeRequest {
    let (key, port, address) = try service(data, "ERR_GRAPE_ANNOUNCE")
    return .announce(key: key, port: port, address: address)
  }

  private static func withdraw(_ data: Any?) throws(Refusal) -> GrapeRequest {
    let (key, port, address) = try service(data, "ERR_GRAPE_WITHDRAW")
    return .withdraw(key: key, port: port, address: address)
  }

  private static func service(
    _ data: Any?, _ error: String
  ) throws(Refusal) -> ([UInt8], UInt16, SocketAddress?) {
    guard let list = data as? [Any] else { throw .error(error) }
    guard list.count > 1, let port = integer(list[1]), (0...65_535).contains(port) else {
      throw .error("ERR_GRAPE_SERVICE_PORT")
    }
    guard let key = key(list[0]) else {
      throw .failure(status: 500, "the service's name must be a string")
    }
    guard key.count <= keyBytesMax else { throw .error(error) }
    // Existing grapes ignore further elements: what is no address counts for nothing.
    let address = list.count > 2 ? list[2] as? String : nil
    return (
      key, UInt16(port), address.flatMap { SocketAddress(ip: $0, port: UInt16(port))?.unmapped }
    )
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

  // MARK: Values

  /// The checks come in the order of existing grapes: value, length, cas, k, sig, salt, seq.
  private static func put(_ data: Any?) throws(Refusal) -> GrapeRequest {
    guard let data else { throw .failure(status: 500, undefinedProperty("k")) }
    if data is NSNull { throw .failure(status: 500, nullProperty("k")) }
    let options = data as? [String: Any] ?? ["v": data as? String as Any? ?? nothing]
    guard let value = options["v"], !(value is Nothing) else { throw .error("opts.v not given") }
    if value is NSNull { throw .error(nullProperty("length")) }
    guard let encoded = GrapeValue.bencode(value) else { throw .error("opts.v not given") }
    var item = DHTItem(value: encoded.encoded)
    guard item.valueBytes < DHTItem.valueBytesMax else {
      throw .error("v must be less than 1000 bytes in put()")
    }
    guard item.isReadable else { throw .error("v is nested too deep or has too many parts") }
    let compareAndSwap = try options["cas"].map { cas throws(Refusal) in
      guard let number = number(cas) else {
        throw .error("opts.cas must be an integer if provided")
      }
      return number
    }
    guard let key = options["k"], !(key is NSNull) else {
      return .put(item, compareAndSwap: nil)
    }
    item.signature = try signature(key, options)
    return .put(item, compareAndSwap: compareAndSwap)
  }

  private static func signature(
    _ key: Any, _ options: [String: Any]
  ) throws(Refusal) -> DHTItem.Signature {
    guard let publicKey = hex(key), publicKey.count == DHTItem.publicKeyBytes else {
      throw .error("opts.k ed25519 public key must be 32 bytes")
    }
    guard let signature = options["sig"].flatMap(hex) else {
      throw .error("opts.sign function or options.sig signature is required for mutable put")
    }
    let salt = Array((options["salt"] as? String ?? "").utf8)
    guard salt.count <= DHTItem.saltBytesMax else {
      throw .error("opts.salt is > 64 bytes long")
    }
    guard let sequence = options["seq"], !(sequence is NSNull) else {
      throw .error("opts.seq not provided for a mutable update")
    }
    guard let number = number(sequence) else { throw .error("opts.seq not an integer") }
    return DHTItem.Signature(
      publicKey: publicKey, salt: salt, sequence: number, signature: signature)
  }

  private static func get(_ data: Any?) throws(Refusal) -> GrapeRequest {
    guard let data else { throw .failure(status: 500, undefinedProperty("salt")) }
    if data is NSNull { throw .failure(status: 500, nullProperty("salt")) }
    let options = data as? [String: Any] ?? ["hash": data]
    guard let text = options["hash"] as? String else { throw .error("ERR_GRAPE_GENERIC") }
    // A target that cannot be one is a value that is not there.
    guard let target = hex(text), target.count == 20 else { throw .empty }
    let salt = (options["salt"] as? String).map { Array($0.utf8) }
    let usesOwnStore = (options["cache"] as? NSNumber)?.boolValue ?? true
    return .get(target: target, salt: salt, usesOwnStore: usesOwnStore)
  }

  // MARK: Pieces

  private struct Nothing {}
  private static let nothing = Nothing()

  private static func hex(_ value: Any) -> [UInt8]? {
    guard let text = value as? String, text.utf8.count % 2 == 0 else { return nil }
    return Digest.bytes(hex: text, count: text.utf8.count / 2)
  }

  /// A whole number, `4005.0` included, but neither `true` nor `"4005"`.
  private static func integer(_ value: Any) -> Int? {
    guard let number = value as? NSNumber, !GrapeValue.isBoolean(number) else { return nil }
    return Int(exactly: number.doubleValue)
  }

  private static func number(_ value: Any) -> Int64? {
    guard let number = value as? NSNumber, !GrapeValue.isBoolean(number) else { return nil }
    switch unsafe String(cString: number.objCType) {
    // A double would round what is beyond 2⁵³.
    case "d", "f": return Int64(exactly: number.doubleValue)
    case "Q", "L": return Int64(exactly: number.uint64Value)
    default: return number.int64Value
    }
  }
}
