import Foundation

/// One line of JSON for machines.
enum JSONLine {
  static func object(_ members: [String: Any]) -> String {
    let options: JSONSerialization.WritingOptions = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? JSONSerialization.data(withJSONObject: members, options: options) else {
      return "{}"
    }
    return String(decoding: data, as: UTF8.self)
  }

  /// The value that JSON text stands for, to be put into an object.
  static func value(_ text: [UInt8]) -> Any {
    let value = try? JSONSerialization.jsonObject(with: Data(text), options: .fragmentsAllowed)
    return value ?? NSNull()
  }

  /// A text as JSON.
  static func string(_ text: String) -> [UInt8] {
    Array((try? JSONEncoder().encode(text)) ?? Data("null".utf8))
  }
}
