internal import Foundation
internal import GrenacheFraming
internal import GrenacheTransport

/// What a link says to a grape's HTTP API and what it hears: JSON both ways.
enum GrapeMessages {
  static let fields: HTTPFields = [("Content-Type", "application/json"), ("Accept", "*/*")]

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
    if text == "No nodes to query" { return .nobodyElse }
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

  /// The addresses that a lookup answers with; a text is the grape's error.
  static func endpoints(in answer: [UInt8]) throws(GrenacheError) -> [Endpoint] {
    guard let texts = decode([String].self, answer) else { throw refusal(answer) }
    return texts.compactMap(Endpoint.init)
  }

  /// `{"key":"<key>","peers":["<ip:port>",…]}`: what a grape tells somebody who watches `key`; `nil`
  /// for anything else.
  static func announcers(of key: String, in message: [UInt8]) -> [Endpoint]? {
    struct Change: Decodable {
      var key: String
      var peers: [String]
    }
    guard JSONScanner.isOneValue(message.span), let change = decode(Change.self, message),
      change.key == key
    else { return nil }
    return change.peers.compactMap(Endpoint.init)
  }

  /// The count that an announcement answers with; a text is the grape's error.
  static func storedCount(in answer: [UInt8]) throws(GrenacheError) -> Int {
    if let count = decode(Int.self, answer) { return count }
    // A grape that knows no other: it keeps the announcement itself, if it is one of ours.
    if decode(String.self, answer) == "No nodes to query" { return 0 }
    throw refusal(answer)
  }

  static func refusal(_ answer: [UInt8]) -> GrenacheError {
    if let text = decode(String.self, answer) {
      return GrenacheError(.grapeRefused, "the grape answered \(text)")
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
