internal import Foundation
internal import GrenacheDHT
internal import GrenacheTLS

/// Values between JSON and bencoding, as existing grapes turn them.
enum GrapeValue {
  /// The bencoded form of what JSON can say; `nil` for what bencoding has no form for.
  static func bencode(_ value: Any) -> Bencode? {
    switch value {
    case let text as String:
      return Bencode(text)
    case let number as NSNumber:
      // Existing grapes cut fractions off, and take true for 1.
      let double = number.doubleValue.rounded(.towardZero)
      return Int64(exactly: double).map { .integer($0) }
    case let list as [Any]:
      let values = list.compactMap(bencode)
      return values.count == list.count ? .list(values) : nil
    case let members as [String: Any]:
      var entries: [[UInt8]: Bencode] = [:]
      for (name, member) in members {
        guard let member = bencode(member) else { return nil }
        entries[Array(name.utf8)] = member
      }
      return .dictionary(entries)
    default:
      return nil
    }
  }

  static func isBoolean(_ number: NSNumber) -> Bool {
    unsafe String(cString: number.objCType) == "c"
  }

  /// The text of a value: its bytes as UTF-8, and of anything else what JavaScript makes of it.
  static func text(_ value: Bencode) -> String {
    switch value {
    case .integer(let number): "\(number)"
    case .bytes(let bytes): String(decoding: bytes, as: UTF8.self)
    case .list(let values): values.map(text).joined(separator: ",")
    case .dictionary: "[object Object]"
    }
  }

  /// The answer to a `get`. The order of the members is that of existing grapes: one for the own store,
  /// another for what a peer had.
  static func json(_ result: DHTGetResult, salt: [UInt8]?) -> String {
    let value = Bencode(decoding: result.item.value.span).map(text) ?? ""
    let id = "\"id\":\"\(result.id)\""
    let token = result.token.map { "\"\(Digest.hex($0))\"" } ?? "null"
    guard let signature = result.item.signature else {
      return "{\(id),\"token\":\(token),\"v\":\(quoted(value))}"
    }
    let k = "\"k\":\"\(Digest.hex(signature.publicKey))\""
    let sig = "\"sig\":\"\(Digest.hex(signature.signature))\""
    let seq = "\"seq\":\(signature.sequence)"
    let v = "\"v\":\(quoted(value))"
    guard result.token != nil else {
      return "{\(id),\"token\":null,\(v),\(sig),\(k),\(seq)}"
    }
    let saltMember =
      salt.map { ",\"salt\":\(quoted(String(decoding: $0, as: UTF8.self)))" } ?? ""
    return "{\(id),\(k),\(seq),\(sig),\"token\":\(token),\(v)\(saltMember)}"
  }

  /// A string of JSON (RFC 8259 §7).
  static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\u{0}"..<" ":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
