import Foundation
import Grenache
import GrenacheCommandSupport

/// One line of JSON for machines.
enum JSONLine {
  /// A value that is JSON already, and goes into an object as it came: numbers keep their digits, strings
  /// their escapes.
  struct Value {
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// On one line: where JSON may have a line's end, it may have a space as well.
    fileprivate var text: String {
      let isEnd = { (byte: UInt8) in byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") }
      return String(decoding: bytes.map { isEnd($0) ? UInt8(ascii: " ") : $0 }, as: UTF8.self)
    }
  }

  /// An object with its members in order; a `Value` is not looked into.
  static func object(_ members: [String: Any]) -> String {
    let fields = members.sorted { $0.key < $1.key }.map { "\(text($0)):\(text($1))" }
    return "{\(fields.joined(separator: ","))}"
  }

  private static func text(_ value: Any) -> String {
    if let json = value as? Value { return json.text }
    let options: JSONSerialization.WritingOptions = [
      .sortedKeys, .withoutEscapingSlashes, .fragmentsAllowed,
    ]
    let data = try? JSONSerialization.data(withJSONObject: value, options: options)
    return data.map { String(decoding: $0, as: UTF8.self) } ?? "null"
  }

  /// What there is to say of an error. Whatever the other side has said in it stands in a JSON string, so it is
  /// neither quoted nor shortened.
  static func members(of error: GrenacheError) -> [String: Any] {
    [
      "error": error.cause.map { "\(error.message): \($0)" } ?? error.message,
      "code": error.code.description,
    ]
  }

  /// The text that a JSON string stands for; `nil` for anything else.
  static func string(of json: [UInt8]) -> String? {
    let value = try? JSONSerialization.jsonObject(with: Data(json), options: .fragmentsAllowed)
    return value as? String
  }

  /// A text as JSON.
  static func string(_ text: String) -> [UInt8] {
    Array((try? JSONEncoder().encode(text)) ?? Data("null".utf8))
  }

  /// Whether bytes are one JSON value, as calls and replies carry it.
  static func isValue(_ bytes: [UInt8]) -> Bool {
    String(validating: bytes, as: UTF8.self) != nil && JSONScanner.isOneValue(bytes.span)
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
    let bytes = Array(text.utf8)
    return isValue(bytes) ? bytes : string(text)
  }
}
