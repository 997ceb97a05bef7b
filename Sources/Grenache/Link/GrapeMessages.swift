internal import Foundation
internal import GrenacheAccess
internal import GrenacheFraming
internal import GrenacheIO
internal import GrenacheTransport

/// What a link says to a grape's HTTP API and what it hears: JSON both ways.
enum GrapeMessages {
  static let fields: HTTPFields = [("Content-Type", "application/json"), ("Accept", "*/*")]
  /// Those of a lookup whose workers are to be told as they are found; existing grapes read none of them.
  static let streamedFields: HTTPFields = [
    ("Content-Type", "application/json"), ("Accept", "\(lines), */*"),
  ]
  /// The type of an answer that tells them so.
  static let lines = "application/x-ndjson"
  /// What a grape says that has not begun what it was asked for.
  static let overloadedCode = "ERR_GRAPE_OVERLOADED"

  /// `{"rid":"…","data":"<service>"}`
  static func lookup(_ service: String, rid: String) -> [UInt8] {
    var body = opening(rid)
    body.appendJSONString(service)
    body.append(UInt8(ascii: "}"))
    return body
  }

  /// `{"rid":"…","data":["<service>",<port>]}`
  static func announce(_ service: String, port: UInt16, rid: String) -> [UInt8] {
    var body = opening(rid)
    body.append(UInt8(ascii: "["))
    body.appendJSONString(service)
    body.append(contentsOf: ",\(port)]}".utf8)
    return body
  }

  /// `{"rid":"…","data":{"v":"…",…}}`
  static func put(_ data: [UInt8], rid: String) -> [UInt8] {
    opening(rid) + data + [UInt8(ascii: "}")]
  }

  /// `{"rid":"…","data":"<target>"}`; with a salt `{"rid":"…","data":{"hash":"<target>","salt":"…"}}`
  static func get(_ target: ItemTarget, salt: String, rid: String) -> [UInt8] {
    guard !salt.isEmpty else { return opening(rid) + Array("\"\(target)\"}".utf8) }
    var body = opening(rid) + Array("{\"hash\":\"\(target)\",\"salt\":".utf8)
    body.appendJSONString(salt)
    return body + Array("}}".utf8)
  }

  /// What a put is answered with.
  enum PutAnswer: Hashable {
    case stored(ItemTarget)
    /// The grape knows no other node.
    case nobodyElse
  }

  static func putAnswer(_ answer: [UInt8]) throws(GrenacheError) -> PutAnswer {
    guard let text = decode(String.self, answer) else { throw refusal(answer) }
    if knowsNoOther(answer) { return .nobodyElse }
    guard let target = ItemTarget(text) else { throw refusal(answer) }
    return .stored(target)
  }

  /// Whether a withdrawal was understood: existing grapes know none.
  static func isWithdrawn(_ answer: [UInt8]) throws(GrenacheError) -> Bool {
    if decode(Int.self, answer) != nil { return true }
    switch decode(String.self, answer) {
    case "ERR_REQ_NOTFOUND": return false
    case "No nodes to query": return true  // it is gone here, and there is nobody else
    default: throw refusal(answer)
    }
  }

  private static func opening(_ rid: String) -> [UInt8] {
    Array("{\"rid\":\"\(rid)\",\"data\":".utf8)
  }

  /// The IP addresses that a lookup answers with, up to a number; a text is the grape's error.
  ///
  /// A name would have this side ask its resolver for whatever a grape likes: no grape gives names.
  static func endpoints(
    in answer: [UInt8], max: Int
  ) throws(GrenacheError) -> [Endpoint] {
    guard let texts = decode([String].self, answer) else { throw refusal(answer) }
    return addresses(in: texts, max: max)
  }

  private static func addresses(in texts: [String], max: Int) -> [Endpoint] {
    let found = texts.lazy.compactMap(Endpoint.init).filter { endpoint in
      SocketAddress(ip: endpoint.host, port: endpoint.port) != nil
    }
    return Array(found.prefix(max))
  }

  /// `{"key":"<key>","peers":["<ip:port>",…]}`: what a grape tells somebody who watches `key`; `nil`
  /// for anything else.
  static func announcers(of key: String, in message: [UInt8], max: Int) -> [Endpoint]? {
    struct Change: Decodable {
      var key: String
      var peers: [String]
    }
    guard JSONScanner.isOneValue(message.span), let change = decode(Change.self, message),
      change.key == key
    else { return nil }
    return addresses(in: change.peers, max: max)
  }

  /// The count that an announcement answers with; a text is the grape's error.
  static func storedCount(in answer: [UInt8]) throws(GrenacheError) -> Int {
    guard let count = decode(Int.self, answer) else { throw refusal(answer) }
    return count
  }

  /// Whether the grape knows no other one.
  static func knowsNoOther(_ answer: [UInt8]) -> Bool {
    decode(String.self, answer) == "No nodes to query"
  }

  /// Whether an announcement has failed for what the grape knows of others: another grape may know more.
  static func cannotAnnounce(_ answer: [UInt8]) -> Bool {
    knowsNoOther(answer) || decode(String.self, answer) == "All queries failed"
  }

  /// Whether the answer is an error of the grape: a text.
  static func isError(_ answer: [UInt8]) -> Bool { decode(String.self, answer) != nil }

  static func refusal(_ answer: [UInt8]) -> GrenacheError {
    if let text = decode(String.self, answer) {
      return GrenacheError(.grapeRefused, "the grape answered \(text.quotedForLog())")
    }
    return GrenacheError(.grapeRefused, "the grape's answer cannot be understood")
  }

  private static func decode<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) -> Value? {
    try? JSONDecoder().decode(type, from: Data(bytes))
  }
}

/// Random identifiers of requests (RFC 9562 §5.4), as existing peers use them.
enum UUIDText {
  static func random() -> String { UUID().uuidString.lowercased() }
}
