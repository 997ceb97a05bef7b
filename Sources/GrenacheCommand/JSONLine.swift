import Foundation
import Grenache
import GrenacheCommandSupport

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

  /// What an argument stands for: JSON as it is, anything else as a string; `-` is standard input.
  ///
  /// - Throws: what `StandardStreams.inputText` does; no more is read than a call may have.
  static func payload(_ argument: String) async throws -> [UInt8] {
    var text = argument
    if text == "-" {
      text = try await StandardStreams.inputText(
        bytesMax: PeerRPCClientConfiguration().callBytesMax, of: "a call")
    }
    let data = Data(text.utf8)
    let isJSON = (try? JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed)) != nil
    return isJSON ? Array(data) : string(text)
  }
}
